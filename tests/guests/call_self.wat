;; On an event it calls echo.reverse of itself, the cell named call_self.
;; The manifest lists echo.reverse under provides and under consumes.
;; probe_code: what pulp_call answered (-1: not called yet)
(module
  (import "pulp" "pulp_call" (func $pulp_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param $envelope i32) (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 20))
      (then
        (global.set $code
          (call $pulp_call
            (i32.const 1024) (i32.const 9) (i32.const 1040) (i32.const 12) (i32.const 0) (i32.const 0)
            (i32.const 1072) (i32.const 1076)))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call")
    (param $name i32) (param $name_len i32) (param $args i32) (param $args_len i32)
    (param $response i32) (param $response_len i32) (result i32)
    (i32.const 0))
  (data (i32.const 1024) "call_self")
  (data (i32.const 1040) "echo.reverse")
  (global $code (mut i32) (i32.const -1))
  (func (export "probe_code") (result i32) (global.get $code)))
