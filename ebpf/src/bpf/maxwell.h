/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the programs of this folder need of the kernel, and no more: numbers of include/uapi/linux/bpf.h and a few
 * members of its structures. Members are looked up by name when a program is loaded (CO-RE), so their places here
 * matter only on kernels that carry no BTF; there, a local definition stands as it is written.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define CORE __attribute__((preserve_access_index))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* How a map is written down in the object (libbpf, bpf_helpers.h). */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,

	BPF_F_NO_PREALLOC = 1,
	BPF_RB_NO_WAKEUP = 1,
};

/* Helpers by number (include/uapi/linux/bpf.h, ___BPF_FUNC_MAPPER). */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*const bpf_get_current_comm)(void *buffer, u32 size) = (void *)16;
static u64 (*const bpf_get_current_task)(void) = (void *)35;
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static u64 (*const bpf_get_current_ancestor_cgroup_id)(int level) = (void *)123;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *record, u64 flags) = (void *)132;
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;

/* include/linux/mm_types.h. `flags` has been the first word since 2.6; its type changed in 6.18 (memdesc_flags_t). */
struct page {
	unsigned long flags;
	unsigned long words[2];
	struct address_space *mapping;
} CORE;

/* include/linux/kernfs.h; `id` is the inode. */
struct kernfs_node {
	u64 id;
} CORE;

/* include/linux/cgroup-defs.h */
struct cgroup {
	int level;
	struct kernfs_node *kn;
} CORE;

struct css_set {
	struct cgroup *dfl_cgrp;
} CORE;

/* include/linux/sched.h */
struct task_struct {
	unsigned int flags;
	struct css_set *cgroups;
} CORE;

/* include/linux/page-flags.h. The number here is that of 5.8 to 6.8; other kernels are asked. */
enum pageflags {
	PG_swapbacked = 19,
};

/* include/linux/page-flags.h: the lowest bit of page->mapping says that a page is anonymous. */
#define PAGE_MAPPING_ANON 1
/* include/linux/sched.h: the task is in reclaim or compaction. */
#define PF_MEMALLOC 0x00000800

#define enum_value(type, value) __builtin_preserve_enum_value(*(typeof(type) *)value, 1)
