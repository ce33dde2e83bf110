;; On an event it sleeps for ten seconds in poll_oneoff; idle steps return at once.
;; probe_errno: the answer of poll_oneoff; -1 until it has one
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
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
        ;; one subscription of 48 bytes: userdata @0, tag @8 (0: a clock), clock @16 (1: monotonic),
        ;; timeout @24 in nanoseconds, precision @32, flags @40 (0: from now on)
        (i32.store (i32.const 1040) (i32.const 1))
        (i64.store (i32.const 1048) (i64.const 10_000_000_000))
        (global.set $errno
          (call $poll_oneoff (i32.const 1024) (i32.const 1088) (i32.const 1) (i32.const 1152)))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (global $errno (mut i32) (i32.const -1))
  (func (export "probe_errno") (result i32) (global.get $errno)))
