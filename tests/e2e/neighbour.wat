(module
  ;; A cell that calls cells of other applications. It answers by the first letter of the function's name:
  ;;   echo   the arguments
  ;;   away   arguments are four times u8 length and bytes (application, instance, cell, function), then arguments:
  ;;          pulp_app_call_v1; answers code u32 + response
  ;;   raw    arguments are the twelve words; answers the code as u32
  ;;   yield  as away, but from then on pulp_alloc answers 0; answers the code as u32
  ;;   relay  arguments are u8 length, target, u8 length, function, arguments: pulp_call; answers as away
  ;;   next   how often it has been asked for this, u32
  ;;   keep   keeps arguments as those of away, for pulp_shutdown, whose result is the code
  ;;   stop   waits until it is ended; trap; big (answers as many bytes as the arguments say, u32)
  (import "pulp" "pulp_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "pulp" "pulp_app_call_v1"
    (func $app_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 1024))
  (global $refuses (mut i32) (i32.const 0))
  (global $next (mut i32) (i32.const 0))
  (global $kept (mut i32) (i32.const 0))
  (global $kept_len (mut i32) (i32.const 0))
  (func $alloc (export "pulp_alloc") (param $size i32) (result i32) (local $at i32)
    (if (global.get $refuses) (then (return (i32.const 0))))
    (local.set $at (global.get $top))
    (global.set $top (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (loop $more
      (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
        (then (drop (memory.grow (i32.const 16))) (br $more))))
    (local.get $at))
  (func (export "pulp_free") (param $at i32) (param $size i32)
    (if (i32.eq (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8))
                (global.get $top))
      (then (global.set $top (local.get $at)))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32)
    (if (result i32) (global.get $kept_len)
      (then (call $away (global.get $kept) (global.get $kept_len) (i32.const 8)))
      (else (i32.const 0))))
  ;; Where the bytes behind a length begin, and where those end.
  (func $end (param $at i32) (result i32)
    (i32.add (i32.add (local.get $at) (i32.const 1)) (i32.load8_u (local.get $at))))
  (func $away (param $args i32) (param $len i32) (param $out i32) (result i32)
    (local $b i32) (local $c i32) (local $d i32) (local $rest i32)
    (local.set $b (call $end (local.get $args)))
    (local.set $c (call $end (local.get $b)))
    (local.set $d (call $end (local.get $c)))
    (local.set $rest (call $end (local.get $d)))
    (call $app_call
      (i32.add (local.get $args) (i32.const 1)) (i32.load8_u (local.get $args))
      (i32.add (local.get $b) (i32.const 1)) (i32.load8_u (local.get $b))
      (i32.add (local.get $c) (i32.const 1)) (i32.load8_u (local.get $c))
      (i32.add (local.get $d) (i32.const 1)) (i32.load8_u (local.get $d))
      (local.get $rest) (i32.sub (i32.add (local.get $args) (local.get $len)) (local.get $rest))
      (local.get $out) (i32.add (local.get $out) (i32.const 4))))
  (func $relay (param $args i32) (param $len i32) (param $out i32) (result i32)
    (local $name i32) (local $rest i32)
    (local.set $name (call $end (local.get $args)))
    (local.set $rest (call $end (local.get $name)))
    (call $call
      (i32.add (local.get $args) (i32.const 1)) (i32.load8_u (local.get $args))
      (i32.add (local.get $name) (i32.const 1)) (i32.load8_u (local.get $name))
      (local.get $rest) (i32.sub (i32.add (local.get $args) (local.get $len)) (local.get $rest))
      (local.get $out) (i32.add (local.get $out) (i32.const 4))))
  (func $word (param $args i32) (param $at i32) (result i32)
    (i32.load (i32.add (local.get $args) (i32.shl (local.get $at) (i32.const 2)))))
  (func $raw (param $args i32) (result i32)
    (call $app_call
      (call $word (local.get $args) (i32.const 0)) (call $word (local.get $args) (i32.const 1))
      (call $word (local.get $args) (i32.const 2)) (call $word (local.get $args) (i32.const 3))
      (call $word (local.get $args) (i32.const 4)) (call $word (local.get $args) (i32.const 5))
      (call $word (local.get $args) (i32.const 6)) (call $word (local.get $args) (i32.const 7))
      (call $word (local.get $args) (i32.const 8)) (call $word (local.get $args) (i32.const 9))
      (call $word (local.get $args) (i32.const 10)) (call $word (local.get $args) (i32.const 11))))
  (func (export "pulp_on_call") (param $name i32) (param $nlen i32) (param $args i32) (param $len i32)
                                (param $rp i32) (param $rl i32) (result i32)
    (local $c i32) (local $code i32) (local $at i32) (local $n i32)
    (local.set $c (i32.load8_u (local.get $name)))
    (if (i32.eq (local.get $c) (i32.const 116)) (then unreachable)) ;; t
    (if (i32.eq (local.get $c) (i32.const 115)) (then (loop $ever (br $ever)))) ;; s
    (if (i32.eq (local.get $c) (i32.const 98)) (then ;; b
      (local.set $n (i32.load (local.get $args)))
      (i32.store (local.get $rp) (call $alloc (local.get $n)))
      (i32.store (local.get $rl) (local.get $n))
      (return (i32.const 0))))
    (if (i32.or (i32.eq (local.get $c) (i32.const 101)) (i32.eq (local.get $c) (i32.const 107))) (then ;; e k
      (local.set $at (call $alloc (local.get $len)))
      (memory.copy (local.get $at) (local.get $args) (local.get $len))
      (if (i32.eq (local.get $c) (i32.const 107)) (then
        (global.set $kept (local.get $at))
        (global.set $kept_len (local.get $len))
        (return (i32.const 0))))
      (i32.store (local.get $rp) (local.get $at))
      (i32.store (local.get $rl) (local.get $len))
      (return (i32.const 0))))
    (i64.store (i32.const 8) (i64.const 0))
    (if (i32.eq (local.get $c) (i32.const 110)) (then ;; n
      (global.set $next (i32.add (global.get $next) (i32.const 1)))
      (local.set $code (global.get $next))))
    (if (i32.eq (local.get $c) (i32.const 121)) (then ;; y
      (global.set $refuses (i32.const 1))
      (local.set $code (call $away (local.get $args) (local.get $len) (i32.const 8)))))
    (if (i32.and (i32.eq (local.get $c) (i32.const 114)) (i32.eq (local.get $nlen) (i32.const 3))) (then ;; raw
      (local.set $code (call $raw (local.get $args)))))
    (if (i32.and (i32.eq (local.get $c) (i32.const 114)) (i32.gt_u (local.get $nlen) (i32.const 3))) (then ;; relay
      (local.set $code (call $relay (local.get $args) (local.get $len) (i32.const 8)))))
    (if (i32.eq (local.get $c) (i32.const 97)) (then ;; a
      (local.set $code (call $away (local.get $args) (local.get $len) (i32.const 8)))))
    (local.set $n (i32.load (i32.const 12)))
    (if (i32.eqz (local.get $n)) (then
      (i32.store (i32.const 64) (local.get $code))
      (i32.store (local.get $rp) (i32.const 64))
      (i32.store (local.get $rl) (i32.const 4))
      (return (i32.const 0))))
    (local.set $at (call $alloc (i32.add (local.get $n) (i32.const 4))))
    (i32.store (local.get $at) (local.get $code))
    (memory.copy (i32.add (local.get $at) (i32.const 4)) (i32.load (i32.const 8)) (local.get $n))
    (i32.store (local.get $rp) (local.get $at))
    (i32.store (local.get $rl) (i32.add (local.get $n) (i32.const 4)))
    (i32.const 0)))
