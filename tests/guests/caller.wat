;; On an event it calls echo.reverse of the cell named provider with "pulp".
;; The manifest lists consumes = ["echo.reverse"].
;; probe_code: what pulp_call answered (-1: not called yet); probe_response, probe_response_len: what it delivered
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
            (i32.const 1024) (i32.const 8) (i32.const 1040) (i32.const 12) (i32.const 1056) (i32.const 4)
            (i32.const 1072) (i32.const 1076)))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (data (i32.const 1024) "provider")
  (data (i32.const 1040) "echo.reverse")
  (data (i32.const 1056) "pulp")
  (global $code (mut i32) (i32.const -1))
  (func (export "probe_code") (result i32) (global.get $code))
  (func (export "probe_response") (result i32) (i32.load (i32.const 1072)))
  (func (export "probe_response_len") (result i32) (i32.load (i32.const 1076))))
