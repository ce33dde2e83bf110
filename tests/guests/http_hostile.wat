;; On an event it passes http_respond a request that is out of bounds in every way.
;; probe_code_0 .. probe_code_4: the codes for an empty request, one that starts past the end, one that ends
;; past it, one whose end wraps around 2^32, and four gigabytes
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
  (func (export "pulp_step") (param $envelope i32) (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 20))
      (then
        (global.set $code_0 (call $http_respond (i32.const 0) (i32.const 0)))
        (global.set $code_1 (call $http_respond (i32.const 1048576) (i32.const 1)))
        (global.set $code_2 (call $http_respond (i32.const 1048568) (i32.const 9)))
        (global.set $code_3 (call $http_respond (i32.const -4) (i32.const 8)))
        (global.set $code_4 (call $http_respond (i32.const 0) (i32.const -1)))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (global $code_0 (mut i32) (i32.const -1))
  (func (export "probe_code_0") (result i32) (global.get $code_0))
  (global $code_1 (mut i32) (i32.const -1))
  (func (export "probe_code_1") (result i32) (global.get $code_1))
  (global $code_2 (mut i32) (i32.const -1))
  (func (export "probe_code_2") (result i32) (global.get $code_2))
  (global $code_3 (mut i32) (i32.const -1))
  (func (export "probe_code_3") (result i32) (global.get $code_3))
  (global $code_4 (mut i32) (i32.const -1))
  (func (export "probe_code_4") (result i32) (global.get $code_4)))
