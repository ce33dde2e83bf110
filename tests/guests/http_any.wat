;; It registers GET /x in pulp_init, answers with the code it got, and never responds to a request.
;; The manifest must declare transport.http.inbound; without it pulp_init answers 99.
(module
  (import "pulp" "http_register" (func $http_register (param i32 i32) (result i32)))
  (import "pulp" "http_respond" (func $http_respond (param i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (call $http_register (i32.const 1024) (i32.const 20)))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  ;; {"method": "GET", "path": "/x"}
  (data (i32.const 1024) "\82\a6method\a3GET\a4path\a2/x"))
