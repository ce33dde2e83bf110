;; It fills 16 bytes with random_get in pulp_init.
;; probe_random: the first 8 of them; probe_errno: the answer
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (global.set $errno (call $random_get (i32.const 1024) (i32.const 16)))
    (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (global $errno (mut i32) (i32.const -1))
  (func (export "probe_errno") (result i32) (global.get $errno))
  (func (export "probe_random") (result i64) (i64.load (i32.const 1024))))
