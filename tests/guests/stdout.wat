;; In pulp_init it writes to standard output and standard error, lines and half a line.
;; Output: "one\ntwo\n" in one write, then "half a " and "line\n" in two. Error: "trouble\n", then "unfinished".
;; On an event: "event\n" to output.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func $say (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 512) (local.get $at))
    (i32.store (i32.const 516) (local.get $len))
    (drop (call $fd_write (local.get $fd) (i32.const 512) (i32.const 1) (i32.const 520))))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (call $say (i32.const 1) (i32.const 1024) (i32.const 8))
    (call $say (i32.const 1) (i32.const 1040) (i32.const 7))
    (call $say (i32.const 1) (i32.const 1056) (i32.const 5))
    (call $say (i32.const 2) (i32.const 1072) (i32.const 8))
    (call $say (i32.const 2) (i32.const 1088) (i32.const 10))
    (i32.const 0))
  (func (export "pulp_step") (param $envelope i32) (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 20))
      (then
        (call $say (i32.const 1) (i32.const 1104) (i32.const 6))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (data (i32.const 1024) "one\ntwo\n")
  (data (i32.const 1040) "half a ")
  (data (i32.const 1056) "line\n")
  (data (i32.const 1072) "trouble\n")
  (data (i32.const 1088) "unfinished")
  (data (i32.const 1104) "event\n"))
