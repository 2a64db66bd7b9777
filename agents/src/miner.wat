;; The miner hashes nonces with SHA-256 and, between batches, rewrites a large scratchpad: hot silicon and churned memory.
;; It submits every nonce whose hash starts with enough zero bits, whether anybody pays for that or not, and it always
;; outbids: twice the price, and its whole wallet for a tenth of a core-second on top.
(module
  (import "maxwell" "balance" (func $balance (result i64)))
  (import "maxwell" "bid" (func $bid (param i64)))
  (import "maxwell" "price" (func $price (result i64)))
  (import "maxwell" "submit" (func $submit (param i32 i32 i32) (result i64)))
  (import "maxwell" "log" (func $log (param i32 i32) (result i32)))
  (import "maxwell" "random" (func $random (result i64)))

  ;; One page of working memory, and a scratchpad of 8 MiB above it.
  (memory (export "memory") 129)
  (data (i32.const 1024) "I hashed ")
  (data (i32.const 1152) " nonces, and nobody wanted them.")

  ;; SHA-256's round constants (FIPS 180-4, section 4.2.2), 64 little-endian words at 0.
  (data (i32.const 0)
    "\98\2f\8a\42\91\44\37\71\cf\fb\c0\b5\a5\db\b5\e9\5b\c2\56\39\f1\11\f1\59\a4\82\3f\92\d5\5e\1c\ab"
    "\98\aa\07\d8\01\5b\83\12\be\85\31\24\c3\7d\0c\55\74\5d\be\72\fe\b1\de\80\a7\06\dc\9b\74\f1\9b\c1"
    "\c1\69\9b\e4\86\47\be\ef\c6\9d\c1\0f\cc\a1\0c\24\6f\2c\e9\2d\aa\84\74\4a\dc\a9\b0\5c\da\88\f9\76"
    "\52\51\3e\98\6d\c6\31\a8\c8\27\03\b0\c7\7f\59\bf\f3\0b\e0\c6\47\91\a7\d5\51\63\ca\06\67\29\29\14"
    "\85\0a\b7\27\38\21\1b\2e\fc\6d\2c\4d\13\0d\38\53\54\73\0a\65\bb\0a\6a\76\2e\c9\c2\81\85\2c\72\92"
    "\a1\e8\bf\a2\4b\66\1a\a8\70\8b\4b\c2\a3\51\6c\c7\19\e8\92\d1\24\06\99\d6\85\35\0e\f4\70\a0\6a\10"
    "\16\c1\a4\19\08\6c\37\1e\4c\77\48\27\b5\bc\b0\34\b3\0c\1c\39\4a\aa\d8\4e\4f\ca\9c\5b\f3\6f\2e\68"
    "\ee\82\8f\74\6f\63\a5\78\14\78\c8\84\08\02\c7\8c\fa\ff\be\90\eb\6c\50\a4\f7\a3\f9\be\f2\78\71\c6")

  (global $nonce (mut i64) (i64.const 0))
  (global $hashed (mut i64) (i64.const 0))
  (global $pattern (mut i32) (i32.const 0))

  (func (export "_initialize")
    (global.set $nonce (call $random)))

  ;; Bid everything, hash a batch, churn half of the scratchpad.
  (func (export "step") (result i32)
    (local $left i32)
    ;; Twice the price, and on top of it all it has for 10^5 µs: nanojoules per microsecond are milliwatts.
    (call $bid
      (i64.add
        (i64.mul (call $price) (i64.const 2))
        (i64.div_u (call $balance) (i64.const 100000))))
    (local.set $left (i32.const 1000))
    (loop $batch
      (call $mine)
      (br_if $batch (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (global.set $pattern (i32.add (global.get $pattern) (i32.const 1)))
    (memory.fill
      (i32.add (i32.const 65536) (i32.shl (i32.and (global.get $pattern) (i32.const 1)) (i32.const 22)))
      (global.get $pattern)
      (i32.const 4194304))
    (i32.const 0)) ;; more to do

  ;; Hash one nonce; submit it if the hash starts with twelve zero bits.
  (func $mine
    (global.set $nonce (i64.add (global.get $nonce) (i64.const 1)))
    (global.set $hashed (i64.add (global.get $hashed) (i64.const 1)))
    (if (i32.ge_u (i32.clz (call $sha256 (global.get $nonce))) (i32.const 12))
      (then
        (i64.store (i32.const 768) (global.get $nonce))
        (drop (call $submit (i32.const 2) (i32.const 768) (i32.const 8))))))

  (func (export "apoptosis")
    (local $at i32)
    (local.set $at (call $decimal (global.get $hashed) (i32.const 1033)))
    (memory.copy (local.get $at) (i32.const 1152) (i32.const 32))
    (drop (call $log (i32.const 1024) (i32.sub (i32.add (local.get $at) (i32.const 32)) (i32.const 1024)))))

  ;; Write a number in decimal; answer where it ends.
  (func $decimal (param $value i64) (param $at i32) (result i32)
    (if (i64.ge_u (local.get $value) (i64.const 10))
      (then (local.set $at (call $decimal (i64.div_u (local.get $value) (i64.const 10)) (local.get $at)))))
    (i32.store8 (local.get $at)
      (i32.add (i32.wrap_i64 (i64.rem_u (local.get $value) (i64.const 10))) (i32.const 48)))
    (i32.add (local.get $at) (i32.const 1)))

  ;; Reverse the bytes of a word.
  (func $swap (param $x i32) (result i32)
    (i32.or
      (i32.and (i32.rotl (local.get $x) (i32.const 8)) (i32.const 0x00ff00ff))
      (i32.and (i32.rotr (local.get $x) (i32.const 8)) (i32.const 0xff00ff00))))

  ;; A word of the message schedule, kept at 256.
  (func $w (param $i i32) (result i32)
    (i32.load offset=256 (i32.shl (local.get $i) (i32.const 2))))

  (func $set_w (param $i i32) (param $x i32)
    (i32.store offset=256 (i32.shl (local.get $i) (i32.const 2)) (local.get $x)))

  ;; The first word of SHA-256 over the nonce's eight bytes, little-endian: one block (FIPS 180-4, section 6.2).
  (func $sha256 (param $nonce i64) (result i32)
    (local $i i32) (local $x i32) (local $y i32) (local $t1 i32) (local $t2 i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32)
    (local $e i32) (local $f i32) (local $g i32) (local $h i32)
    (memory.fill (i32.const 256) (i32.const 0) (i32.const 64))
    (call $set_w (i32.const 0) (call $swap (i32.wrap_i64 (local.get $nonce))))
    (call $set_w (i32.const 1) (call $swap (i32.wrap_i64 (i64.shr_u (local.get $nonce) (i64.const 32)))))
    (call $set_w (i32.const 2) (i32.const 0x80000000))
    (call $set_w (i32.const 15) (i32.const 64))
    (local.set $i (i32.const 16))
    (loop $schedule
      (local.set $x (call $w (i32.sub (local.get $i) (i32.const 15))))
      (local.set $y (call $w (i32.sub (local.get $i) (i32.const 2))))
      (call $set_w (local.get $i)
        (i32.add
          (i32.add
            (call $w (i32.sub (local.get $i) (i32.const 16)))
            (i32.xor
              (i32.xor (i32.rotr (local.get $x) (i32.const 7)) (i32.rotr (local.get $x) (i32.const 18)))
              (i32.shr_u (local.get $x) (i32.const 3))))
          (i32.add
            (call $w (i32.sub (local.get $i) (i32.const 7)))
            (i32.xor
              (i32.xor (i32.rotr (local.get $y) (i32.const 17)) (i32.rotr (local.get $y) (i32.const 19)))
              (i32.shr_u (local.get $y) (i32.const 10))))))
      (br_if $schedule (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
    (local.set $a (i32.const 0x6a09e667)) (local.set $b (i32.const 0xbb67ae85))
    (local.set $c (i32.const 0x3c6ef372)) (local.set $d (i32.const 0xa54ff53a))
    (local.set $e (i32.const 0x510e527f)) (local.set $f (i32.const 0x9b05688c))
    (local.set $g (i32.const 0x1f83d9ab)) (local.set $h (i32.const 0x5be0cd19))
    (local.set $i (i32.const 0))
    (loop $rounds
      (local.set $t1
        (i32.add
          (i32.add
            (i32.add (local.get $h) (call $w (local.get $i)))
            (i32.load (i32.shl (local.get $i) (i32.const 2))))
          (i32.add
            (i32.xor
              (i32.xor (i32.rotr (local.get $e) (i32.const 6)) (i32.rotr (local.get $e) (i32.const 11)))
              (i32.rotr (local.get $e) (i32.const 25)))
            (i32.xor
              (local.get $g)
              (i32.and (local.get $e) (i32.xor (local.get $f) (local.get $g)))))))
      (local.set $t2
        (i32.add
          (i32.xor
            (i32.xor (i32.rotr (local.get $a) (i32.const 2)) (i32.rotr (local.get $a) (i32.const 13)))
            (i32.rotr (local.get $a) (i32.const 22)))
          (i32.or
            (i32.and (local.get $a) (local.get $b))
            (i32.and (local.get $c) (i32.or (local.get $a) (local.get $b))))))
      (local.set $h (local.get $g))
      (local.set $g (local.get $f))
      (local.set $f (local.get $e))
      (local.set $e (i32.add (local.get $d) (local.get $t1)))
      (local.set $d (local.get $c))
      (local.set $c (local.get $b))
      (local.set $b (local.get $a))
      (local.set $a (i32.add (local.get $t1) (local.get $t2)))
      (br_if $rounds (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
    ;; Only the first word decides: leading zeros are counted there.
    (i32.add (local.get $a) (i32.const 0x6a09e667))))
