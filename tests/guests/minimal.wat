;; A cell that does everything right and remembers what it was given.
;; probe_allocs, probe_frees, probe_live: calls of pulp_alloc and pulp_free, and the bytes still held
;; probe_steps, probe_events: calls of pulp_step, and those with an event
;; probe_last_envelope, probe_last_len: the latest pulp_step; probe_config, probe_config_len: pulp_init
;; probe_shutdowns: calls of pulp_shutdown
;; The allocator grows memory as needed, answers 0 when it cannot, and takes back the latest block.
(module
  (memory (export "memory") 1)
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
  (global $config (mut i32) (i32.const 0))
  (global $config_len (mut i32) (i32.const 0))
  (func (export "pulp_init") (param $config i32) (param $len i32) (result i32)
    (global.set $config (local.get $config))
    (global.set $config_len (local.get $len))
    (i32.const 0))
  (global $steps (mut i32) (i32.const 0))
  (global $events (mut i32) (i32.const 0))
  (global $envelope (mut i32) (i32.const 0))
  (global $envelope_len (mut i32) (i32.const 0))
  (func (export "pulp_step") (param $envelope i32) (param $len i32) (result i32)
    (global.set $steps (i32.add (global.get $steps) (i32.const 1)))
    (global.set $events (i32.add (global.get $events) (i32.gt_u (local.get $len) (i32.const 20))))
    (global.set $envelope (local.get $envelope))
    (global.set $envelope_len (local.get $len))
    (i32.const 0))
  (global $shutdowns (mut i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32)
    (global.set $shutdowns (i32.add (global.get $shutdowns) (i32.const 1)))
    (i32.const 0))
  (func (export "probe_allocs") (result i32) (global.get $allocs))
  (func (export "probe_frees") (result i32) (global.get $frees))
  (func (export "probe_live") (result i32) (global.get $live))
  (func (export "probe_steps") (result i32) (global.get $steps))
  (func (export "probe_events") (result i32) (global.get $events))
  (func (export "probe_last_envelope") (result i32) (global.get $envelope))
  (func (export "probe_last_len") (result i32) (global.get $envelope_len))
  (func (export "probe_config") (result i32) (global.get $config))
  (func (export "probe_config_len") (result i32) (global.get $config_len))
  (func (export "probe_shutdowns") (result i32) (global.get $shutdowns)))
