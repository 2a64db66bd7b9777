/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The syscall audit: how many system calls of which class the tasks of an agent make.
 *
 * Off unless asked for. As soon as anything listens to raw_syscalls:sys_enter, the kernel sends every system call of
 * every task through its slow path, agents or not (docs/landauer.md has the numbers).
 */
#include "maxwell.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The level of the agents' groups in the cgroup tree; the root is 0. Set at load. */
const volatile u32 LEVEL = 1;

/* Mirrored in class.rs. */
#define CLASSES 8
#define OTHER 6
#define NUMBERS 512

struct calls {
	u64 of[CLASSES];
};

/* The class of a system call by its number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NUMBERS);
	__type(key, u32);
	__type(value, u32);
} CLASS_OF SEC(".maps");

/* Agents by the id of their cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct calls);
} CALLS SEC(".maps");

ALWAYS_INLINE int call(u64 number)
{
	u64 cgroup = bpf_get_current_ancestor_cgroup_id(LEVEL);
	struct calls *calls = bpf_map_lookup_elem(&CALLS, &cgroup);
	u32 index = number < NUMBERS ? number : NUMBERS - 1;
	u32 *class;

	if (!calls)
		return 0;
	class = bpf_map_lookup_elem(&CLASS_OF, &index);
	calls->of[class ? *class & (CLASSES - 1) : OTHER]++;
	return 0;
}

/* TP_PROTO(struct pt_regs *regs, long id), include/trace/events/syscalls.h */
SEC("tp_btf/sys_enter")
int call_btf(u64 *arguments)
{
	return call(arguments[1]);
}

SEC("raw_tp/sys_enter")
int call_raw(u64 *arguments)
{
	return call(arguments[1]);
}
