;; The leech burns compute and gives nothing back: an endless loop that never returns from its first step. Its host stops
;; it at every fuel yield, and bills it like anybody else.
(module
  (memory (export "memory") 1)
  (func (export "step") (result i32)
    (loop $for_ever (br $for_ever))
    (unreachable)))
