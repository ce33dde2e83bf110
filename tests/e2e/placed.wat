(module
  ;; A cell that tells about itself, by the first letter of the function it is asked for:
  ;;   config  the bytes that pulp_init was given
  ;;   last    the latest event, as its envelope
  ;;   write   puts the arguments into the file f; answers the code as u32
  ;;   get     the file f, or its code
  ;;   trap
  (import "pulp" "fs_write" (func $fs_write (param i32 i32 i32 i32) (result i32)))
  (import "pulp" "fs_read" (func $fs_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 4096))
  (global $config (mut i32) (i32.const 0))
  (global $config_len (mut i32) (i32.const 0))
  (global $event (mut i32) (i32.const 0))
  (global $event_len (mut i32) (i32.const 0))
  (data (i32.const 32) "f")
  (func $alloc (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param $at i32) (param $len i32) (result i32)
    (global.set $config (local.get $at))
    (global.set $config_len (local.get $len))
    (i32.const 0))
  (func (export "pulp_step") (param $at i32) (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 20))
      (then
        (global.set $event (call $alloc (local.get $len)))
        (global.set $event_len (local.get $len))
        (memory.copy (global.get $event) (local.get $at) (local.get $len))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call") (param $name i32) (param $nlen i32) (param $args i32) (param $len i32)
                                (param $rp i32) (param $rl i32) (result i32)
    (local $c i32)
    (local.set $c (i32.load8_u (local.get $name)))
    (if (i32.eq (local.get $c) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $c) (i32.const 99))
      (then
        (i32.store (local.get $rp) (global.get $config))
        (i32.store (local.get $rl) (global.get $config_len))
        (return (i32.const 0))))
    (if (i32.eq (local.get $c) (i32.const 108))
      (then
        (i32.store (local.get $rp) (global.get $event))
        (i32.store (local.get $rl) (global.get $event_len))
        (return (i32.const 0))))
    (if (i32.eq (local.get $c) (i32.const 119))
      (then
        (i32.store (i32.const 8)
          (call $fs_write (i32.const 32) (i32.const 1) (local.get $args) (local.get $len)))
        (i32.store (local.get $rp) (i32.const 8))
        (i32.store (local.get $rl) (i32.const 4))
        (return (i32.const 0))))
    (call $fs_read (i32.const 32) (i32.const 1) (local.get $rp) (local.get $rl))))
