;; It registers GET and POST /x/:do, and does what the first letter of :do says:
;;   o  answers 200 "ok"
;;   i  answers nothing
;;   s  never returns
;;   t  traps
;;   d  answers 200 "ok" twice and keeps the second code for q
;;   l  tries to answer the request before this one, then answers with the code of that
;;   h  tries an answer with a header that hides a second header, then answers with the code of that
;;   n  tries an answer with status 99, then answers with the code of that
;;   f  answers with framing headers of its own
;;   q  answers with the code it kept
(module
  (import "pulp" "http_register" (func $http_register (param i32 i32) (result i32)))
  (import "pulp" "http_respond" (func $http_respond (param i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $kept (mut i32) (i32.const 0))
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (i32.or
      (call $http_register (i32.const 1024) (i32.const 24))
      (call $http_register (i32.const 1088) (i32.const 25))))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))

  (func $find (param $at i32) (param $word i32) (result i32)
    (loop $next
      (if (i32.ne (i32.load (local.get $at)) (local.get $word))
        (then (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $next))))
    (local.get $at))

  ;; Respond with the answer at $template to the request whose id is at $id.
  (func $respond (param $template i32) (param $length i32) (param $id i32) (result i32)
    (i64.store (i32.add (local.get $template) (i32.const 5)) (i64.load (local.get $id)))
    (call $http_respond (local.get $template) (local.get $length)))

  ;; Respond 200 with "c" and a digit.
  (func $tell (param $code i32) (param $id i32) (result i32)
    (i32.store8 (i32.const 2343) (i32.const 99))
    (i32.store8 (i32.const 2344) (i32.add (local.get $code) (i32.const 48)))
    (call $respond (i32.const 2304) (i32.const 41) (local.get $id)))

  (func (export "pulp_step") (param $envelope i32) (param $length i32) (result i32)
    (local $id i32) (local $do i32)
    (if (i32.eq (local.get $length) (i32.const 20)) (then (return (i32.const 0))))
    (local.set $id (i32.add (call $find (local.get $envelope) (i32.const 0xcf6469a2)) (i32.const 4)))
    (local.set $do (i32.load8_u (i32.add (call $find (local.get $envelope) (i32.const 0x746170a4)) (i32.const 9))))
    (if (i32.eq (local.get $do) (i32.const 111)) (then ;; o
      (drop (call $respond (i32.const 2048) (i32.const 41) (local.get $id)))))
    (if (i32.eq (local.get $do) (i32.const 115)) (then ;; s
      (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $do) (i32.const 116)) (then ;; t
      (unreachable)))
    (if (i32.eq (local.get $do) (i32.const 100)) (then ;; d
      (drop (call $respond (i32.const 2048) (i32.const 41) (local.get $id)))
      (global.set $kept (call $respond (i32.const 2048) (i32.const 41) (local.get $id)))))
    (if (i32.eq (local.get $do) (i32.const 108)) (then ;; l
      (i64.store (i32.const 512) (i64.load (local.get $id))) ;; big-endian: the last byte counts
      (i32.store8 (i32.const 519) (i32.sub (i32.load8_u (i32.const 519)) (i32.const 1)))
      (drop (call $tell (call $respond (i32.const 2048) (i32.const 41) (i32.const 512)) (local.get $id)))))
    (if (i32.eq (local.get $do) (i32.const 104)) (then ;; h
      (drop (call $tell (call $respond (i32.const 2560) (i32.const 58) (local.get $id)) (local.get $id)))))
    (if (i32.eq (local.get $do) (i32.const 110)) (then ;; n
      (drop (call $tell (call $respond (i32.const 2816) (i32.const 41) (local.get $id)) (local.get $id)))))
    (if (i32.eq (local.get $do) (i32.const 102)) (then ;; f
      (drop (call $respond (i32.const 3072) (i32.const 87) (local.get $id)))))
    (if (i32.eq (local.get $do) (i32.const 113)) (then ;; q
      (drop (call $tell (global.get $kept) (local.get $id)))))
    (i32.const 0))

  (data (i32.const 1024) "\82\a6method\a3GET\a4path\a6/x/:do")
  (data (i32.const 1088) "\82\a6method\a4POST\a4path\a6/x/:do")
  (data (i32.const 2048) "\84\a2id\cf........\a6status\cd\00\c8\a7headers\80\a4body\c4\02ok")
  (data (i32.const 2304) "\84\a2id\cf........\a6status\cd\00\c8\a7headers\80\a4body\c4\02c?")
  (data (i32.const 2560) "\84\a2id\cf........\a6status\cd\00\c8\a7headers\81\a3X-A\ac1\0d\0aX-Evil: 1\a4body\c4\02no")
  (data (i32.const 2816) "\84\a2id\cf........\a6status\cd\00\63\a7headers\80\a4body\c4\02no")
  (data (i32.const 3072) "\84\a2id\cf........\a6status\cd\00\c8\a7headers\82\aeContent-Length\a3999\b1Transfer-Encoding\a8identity\a4body\c4\02ok"))
