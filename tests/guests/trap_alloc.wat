;; It traps in pulp_alloc.
(module
  (memory (export "memory") 16)
  (func (export "pulp_alloc") (param i32) (result i32) unreachable)
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))
