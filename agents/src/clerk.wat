;; The clerk has a little to do in every tick: it stirs a number three hundred thousand times, then waits for the next tick.
;; Ten thousand of them fill a machine with short visits.
(module
  (memory (export "memory") 1)
  (global $ledger (mut i64) (i64.const 1))
  (func (export "step") (result i32)
    (local $left i32)
    (local.set $left (i32.const 300000))
    (loop $stir
      (global.set $ledger
        (i64.add (i64.mul (global.get $ledger) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
      (br_if $stir (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i32.const 1))) ;; nothing more until the next tick
