;; Asks a cell in one crossing: allocate, copy in, pulp_on_call, copy out, free, without leaving WebAssembly.
;;
;; The host writes name and arguments into $pad, one behind the other from 16 on, before it calls ask, and finds there
;;
;;      0        4           8          12        16
;;      ┌────────┬───────────┬──────────┬─────────┬─ ─ ─
;;      │ code   │ address   │ length   │ copied  │ response
;;      └────────┴───────────┴──────────┴─────────┴─ ─ ─
;;
;; copied is 1 when the response is there, and freed; 0 when it does not fit or is not inside memory: then it still
;; lies where address and length say. ask answers 0; 1 when pulp_alloc answered 0, 2 when it answered an address
;; outside memory. Order and number of allocations are the contract's: name, arguments, out-area (spec/core §3.5).
(module
  (import "cell" "memory" (memory $cell 0))
  (import "cell" "pulp_alloc" (func $alloc (param i32) (result i32)))
  (import "cell" "pulp_on_call" (func $on_call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cell" "pulp_free" (func $free (param i32 i32)))
  (memory $pad (export "pad") 4 4)
  (global $failed (mut i32) (i32.const 0))
  (func $inside (param $address i32) (param $size i32) (result i32)
    (i64.le_u
      (i64.add (i64.extend_i32_u (local.get $address)) (i64.extend_i32_u (local.get $size)))
      (i64.shl (i64.extend_i32_u (memory.size $cell)) (i64.const 16))))
  (func $place (param $from i32) (param $size i32) (result i32) (local $address i32)
    (if (i32.eqz (local.get $size)) (then (return (i32.const 0))))
    (local.set $address (call $alloc (local.get $size)))
    (if (i32.eqz (local.get $address)) (then (global.set $failed (i32.const 1)) (return (i32.const 0))))
    (if (i32.eqz (call $inside (local.get $address) (local.get $size)))
      (then (global.set $failed (i32.const 2)) (return (i32.const 0))))
    (memory.copy $cell $pad (local.get $address) (local.get $from) (local.get $size))
    (local.get $address))
  (func $release (param $address i32) (param $size i32)
    (if (local.get $size) (then (call $free (local.get $address) (local.get $size)))))
  (func (export "ask") (param $name_len i32) (param $args_len i32) (result i32)
    (local $name i32) (local $args i32) (local $out i32) (local $code i32) (local $address i32) (local $length i32)
    (global.set $failed (i32.const 0))
    (i64.store $pad (i32.const 0) (i64.const 0))
    (i64.store $pad (i32.const 8) (i64.const 0))
    (local.set $name (call $place (i32.const 16) (local.get $name_len)))
    (if (global.get $failed) (then (return (global.get $failed))))
    (local.set $args (call $place (i32.add (i32.const 16) (local.get $name_len)) (local.get $args_len)))
    (if (global.get $failed) (then (return (global.get $failed))))
    (local.set $out (call $place (i32.const 0) (i32.const 8)))
    (if (global.get $failed) (then (return (global.get $failed))))
    (local.set $code (call $on_call (local.get $name) (local.get $name_len) (local.get $args) (local.get $args_len)
      (local.get $out) (i32.add (local.get $out) (i32.const 4))))
    (i32.store $pad (i32.const 0) (local.get $code))
    (if (i32.eqz (local.get $code))
      (then
        (local.set $address (i32.load $cell (local.get $out)))
        (local.set $length (i32.load $cell offset=4 (local.get $out)))
        (i32.store $pad offset=4 (i32.const 0) (local.get $address))
        (i32.store $pad offset=8 (i32.const 0) (local.get $length))
        (if (i32.and
              (i32.le_u (local.get $length) (i32.const 262128))
              (call $inside (local.get $address) (local.get $length)))
          (then
            (memory.copy $pad $cell (i32.const 16) (local.get $address) (local.get $length))
            (i32.store $pad offset=12 (i32.const 0) (i32.const 1))
            (call $release (local.get $address) (local.get $length))))))
    (call $free (local.get $out) (i32.const 8))
    (call $release (local.get $args) (local.get $args_len))
    (call $release (local.get $name) (local.get $name_len))
    (i32.const 0)))
