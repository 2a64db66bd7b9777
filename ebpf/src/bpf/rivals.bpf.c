/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Other places where an erasure meter could stand. Only the benchmark loads these: each does no more than find the
 * agent and add one, which is less than a meter there would have to do.
 */
#include "maxwell.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile u32 LEVEL = 1;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} SEEN SEC(".maps");

ALWAYS_INLINE int seen(void)
{
	u64 cgroup = bpf_get_current_ancestor_cgroup_id(LEVEL);
	u64 *times = bpf_map_lookup_elem(&SEEN, &cgroup);

	if (times)
		(*times)++;
	return 0;
}

/* Changes of a process's resident set: TP_PROTO(struct mm_struct *mm, int member), include/trace/events/kmem.h */
SEC("tp_btf/rss_stat")
int rss_stat(u64 *arguments)
{
	return arguments[1] == 1 /* MM_ANONPAGES */ ? seen() : 0;
}

/* The resident set before and after each system call that may shrink it. */
ALWAYS_INLINE int shrinks(u64 number)
{
	/* munmap, mremap, madvise, brk on x86_64; the choice of numbers does not change what it costs. */
	return number == 11 || number == 25 || number == 28 || number == 12;
}

SEC("tp_btf/sys_enter")
int enter(u64 *arguments)
{
	return shrinks(arguments[1]) ? seen() : 0;
}

SEC("tp_btf/sys_exit")
int leave(u64 *arguments)
{
	(void)arguments;
	return seen();
}
