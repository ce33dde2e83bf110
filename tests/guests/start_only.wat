;; It exports _start and no _initialize: _start is run.
;; probe_initialized, probe_started: how often each ran
(module
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (global $initialized (mut i32) (i32.const 0))
  (global $started (mut i32) (i32.const 0))
  (func (export "probe_initialized") (result i32) (global.get $initialized))
  (func (export "probe_started") (result i32) (global.get $started))
  (func (export "_start") (global.set $started (i32.add (global.get $started) (i32.const 1)))))
