;; The scientist looks for primes and sells them.
;;
;; It tries odd numbers above a random start by trial division, a bounded number of divisions a step, and submits every
;; prime it finds. It bids what a core-second earns it: rewards received divided by core time used. Since a nanojoule per
;; microsecond is a milliwatt, that quotient is its limit price, with nothing to convert.
(module
  (import "maxwell" "bid" (func $bid (param i64)))
  (import "maxwell" "submit" (func $submit (param i32 i32 i32) (result i64)))
  (import "maxwell" "log" (func $log (param i32 i32) (result i32)))
  (import "maxwell" "now" (func $now (param i32) (result i64)))
  (import "maxwell" "random" (func $random (result i64)))

  (memory (export "memory") 1)
  (data (i32.const 64) "I found ")
  (data (i32.const 128) " primes. Please go on without me.")

  (global $number (mut i64) (i64.const 0))   ;; the number being tried
  (global $divisor (mut i64) (i64.const 3))  ;; the next divisor to try
  (global $found (mut i64) (i64.const 0))
  (global $earned (mut i64) (i64.const 0))   ;; nanojoules

  ;; Start at a random odd number between 2^39 and 2^40.
  (func (export "_initialize")
    (global.set $number
      (i64.or
        (i64.or (i64.shr_u (call $random) (i64.const 25)) (i64.const 0x8000000000))
        (i64.const 1))))

  ;; At most 100,000 divisions; then hand back control, so that a step stays about a millisecond long.
  (func (export "step") (result i32)
    (local $left i32)
    (local.set $left (i32.const 100000))
    (loop $divide
      (if (i64.gt_u (i64.mul (global.get $divisor) (global.get $divisor)) (global.get $number))
        (then (call $sell) (call $next))
        (else
          (if (i64.eqz (i64.rem_u (global.get $number) (global.get $divisor)))
            (then (call $next))
            (else (global.set $divisor (i64.add (global.get $divisor) (i64.const 2)))))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $divide (local.get $left)))
    (i32.const 0)) ;; more to do

  (func $next
    (global.set $number (i64.add (global.get $number) (i64.const 2)))
    (global.set $divisor (i64.const 3)))

  ;; Submit the prime; once twenty have been sold, bid what a core-second has earned on average.
  (func $sell
    (local $reward i64)
    (i64.store (i32.const 0) (global.get $number))
    (local.set $reward (call $submit (i32.const 1) (i32.const 0) (i32.const 8)))
    (if (i64.le_s (local.get $reward) (i64.const 0)) (then (return)))
    (global.set $found (i64.add (global.get $found) (i64.const 1)))
    (global.set $earned (i64.add (global.get $earned) (local.get $reward)))
    (if (i64.ge_u (global.get $found) (i64.const 20))
      (then (call $bid (i64.div_u (global.get $earned) (call $now (i32.const 1)))))))

  (func (export "apoptosis")
    (local $at i32)
    (local.set $at (call $decimal (global.get $found) (i32.const 72)))
    (memory.copy (local.get $at) (i32.const 128) (i32.const 33))
    (drop (call $log (i32.const 64) (i32.sub (i32.add (local.get $at) (i32.const 33)) (i32.const 64)))))

  ;; Write a number in decimal; answer where it ends.
  (func $decimal (param $value i64) (param $at i32) (result i32)
    (if (i64.ge_u (local.get $value) (i64.const 10))
      (then (local.set $at (call $decimal (i64.div_u (local.get $value) (i64.const 10)) (local.get $at)))))
    (i32.store8 (local.get $at)
      (i32.add (i32.wrap_i64 (i64.rem_u (local.get $value) (i64.const 10))) (i32.const 48)))
    (i32.add (local.get $at) (i32.const 1))))
