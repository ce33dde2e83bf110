;; It answers every call with the bytes it was given, in reverse.
;; The manifest lists what it provides, such as provides = ["echo.reverse"].
;; probe_allocs, probe_frees, probe_live: calls of pulp_alloc (the response is one of them) and pulp_free, and the
;; bytes still held
(module
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (global $allocs (mut i32) (i32.const 0))
  (global $frees (mut i32) (i32.const 0))
  (global $live (mut i32) (i32.const 0))
  (func $alloc (export "pulp_alloc") (param $size i32) (result i32)
    (local $end i32)
    (local $have i32)
    (global.set $allocs (i32.add (global.get $allocs) (i32.const 1)))
    (local.set $end
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (if (i32.lt_u (local.get $end) (global.get $next)) (then (return (i32.const 0))))
    (local.set $have (i32.shl (memory.size) (i32.const 16)))
    (if (i32.gt_u (local.get $end) (local.get $have))
      (then
        (if (i32.eq
              (memory.grow
                (i32.shr_u
                  (i32.add (i32.sub (local.get $end) (local.get $have)) (i32.const 65535))
                  (i32.const 16)))
              (i32.const -1))
          (then (return (i32.const 0))))))
    (global.set $live (i32.add (global.get $live) (local.get $size)))
    (global.get $next)
    (global.set $next (local.get $end)))
  (func (export "pulp_free") (param $ptr i32) (param $size i32)
    (global.set $frees (i32.add (global.get $frees) (i32.const 1)))
    (global.set $live (i32.sub (global.get $live) (local.get $size)))
    (if (i32.eq
          (i32.and (i32.add (i32.add (local.get $ptr) (local.get $size)) (i32.const 7)) (i32.const -8))
          (global.get $next))
      (then (global.set $next (local.get $ptr)))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call")
    (param $name i32) (param $name_len i32) (param $args i32) (param $args_len i32)
    (param $response i32) (param $response_len i32) (result i32)
    (local $out i32)
    (local $i i32)
    (i32.store align=1 (local.get $response) (i32.const 0))
    (i32.store align=1 (local.get $response_len) (i32.const 0))
    (if (i32.eqz (local.get $args_len)) (then (return (i32.const 0))))
    (local.set $out (call $alloc (local.get $args_len)))
    (if (i32.eqz (local.get $out)) (then (return (i32.const 7))))
    (loop $each
      (i32.store8
        (i32.add (local.get $out) (local.get $i))
        (i32.load8_u
          (i32.add (local.get $args) (i32.sub (i32.sub (local.get $args_len) (local.get $i)) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $i) (local.get $args_len))))
    (i32.store align=1 (local.get $response) (local.get $out))
    (i32.store align=1 (local.get $response_len) (local.get $args_len))
    (i32.const 0))
  (func (export "probe_allocs") (result i32) (global.get $allocs))
  (func (export "probe_frees") (result i32) (global.get $frees))
  (func (export "probe_live") (result i32) (global.get $live)))
