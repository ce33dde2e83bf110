;; Runs a batch of steps in one crossing: for each envelope alloc, copy, step, free, without leaving WebAssembly.
;;
;; The host writes into $batch, before it calls run:
;;
;;      0        4        8                     8 + 8n
;;      ┌────────┬────────┬──────────┬──────────┬─ ─ ─
;;      │ stop   │ done   │ at, size │ at, size │ envelopes
;;      └────────┴────────┴──────────┴──────────┴─ ─ ─
;;
;; done counts the steps that have come back; while one traps it is the number of that one. stop is set from
;; another thread when the batch has taken long enough; run then returns after the step it is in.
;; run answers how many steps it made; bit 30 says that pulp_alloc answered an address outside memory, bit 31 that it
;; answered 0, for the step after them.
(module
  (import "cell" "memory" (memory $cell 0))
  (import "cell" "pulp_alloc" (func $alloc (param i32) (result i32)))
  (import "cell" "pulp_step" (func $step (param i32 i32) (result i32)))
  (import "cell" "pulp_free" (func $free (param i32 i32)))
  (memory $batch (export "batch") 4 4)
  (func (export "run") (param $count i32) (result i32)
    (local $made i32) (local $entry i32) (local $size i32) (local $address i32)
    (local.set $entry (i32.const 8))
    (loop $next
      (i32.store $batch offset=4 (i32.const 0) (local.get $made))
      (if (i32.eq (local.get $made) (local.get $count)) (then (return (local.get $made))))
      (if (i32.and (i32.ne (local.get $made) (i32.const 0)) (i32.load $batch (i32.const 0)))
        (then (return (local.get $made))))
      (local.set $size (i32.load $batch offset=4 (local.get $entry)))
      (local.set $address (call $alloc (local.get $size)))
      (if (i32.eqz (local.get $address))
        (then (return (i32.or (local.get $made) (i32.const 0x80000000)))))
      (if (i64.gt_u
            (i64.add (i64.extend_i32_u (local.get $address)) (i64.extend_i32_u (local.get $size)))
            (i64.shl (i64.extend_i32_u (memory.size $cell)) (i64.const 16)))
        (then (return (i32.or (local.get $made) (i32.const 0x40000000)))))
      (memory.copy $cell $batch (local.get $address) (i32.load $batch (local.get $entry)) (local.get $size))
      (drop (call $step (local.get $address) (local.get $size)))
      (call $free (local.get $address) (local.get $size))
      (local.set $made (i32.add (local.get $made) (i32.const 1)))
      (local.set $entry (i32.add (local.get $entry) (i32.const 8)))
      (br $next))
    (unreachable)))
