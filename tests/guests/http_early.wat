;; It registers GET /x in _initialize, before pulp_init, as cells written in Go often do.
;; probe_code: the code it got
(module
  (import "pulp" "http_register" (func $http_register (param i32 i32) (result i32)))
  (import "pulp" "http_respond" (func $http_respond (param i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  ;; {"method": "GET", "path": "/x"}
  (data (i32.const 1024) "\82\a6method\a3GET\a4path\a2/x")
  (global $code (mut i32) (i32.const -1))
  (func (export "_initialize")
    (global.set $code (call $http_register (i32.const 1024) (i32.const 20))))
  (func (export "probe_code") (result i32) (global.get $code)))
