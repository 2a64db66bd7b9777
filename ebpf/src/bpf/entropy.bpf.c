/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The erasure meter: memory with content that nothing else holds, given back to the kernel by a task of an agent.
 *
 *     munmap, madvise, brk, mremap, ftruncate, unlink, exit, a broken copy-on-write, ...
 *        `-> the last reference to a page falls -> free_pages_prepare() -> tracepoint kmem:mm_page_free  (here)
 *
 * One place for all of them, after the kernel itself has decided that nobody holds the page any more, and before it
 * forgets what the page was. So a range that was never touched costs nothing, memory that a forked child shares with
 * its parent costs nothing when the child leaves, and system calls that free nothing are not slowed down at all.
 *
 * Only swap-backed memory counts (anonymous, shared, tmpfs): its content exists nowhere else. A page of a file's
 * cache is a copy.
 */
#include "maxwell.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The level of the agents' groups in the cgroup tree; the root is 0. Set at load. */
const volatile u32 LEVEL = 1;
/* A sample is recorded each time an agent has released 2^SAMPLE_SHIFT pages on a core. Set at load. */
const volatile u32 SAMPLE_SHIFT = 8;
/* Whether the numbers of this kernel are known. If not, only anonymous memory is recognised. Set at load. */
const volatile u32 KERNEL_KNOWN = 1;

/* Mirrored in counters.rs. */
struct released {
	u64 pages;
	u64 frees;
	u64 lost_samples;
};

/* Agents by the id of their cgroup. User space inserts and removes keys; tasks of other groups find none. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct released);
} RELEASED SEC(".maps");

/* Mirrored in sample.rs. */
struct sample {
	u64 cgroup;
	u64 pages;
	u32 pid;
	u32 thread;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} SAMPLES SEC(".maps");

/* Which process freed them: of every 2^SAMPLE_SHIFT pages the one that freed the last stands for all. */
static __attribute__((noinline)) int record(struct released *released, u64 cgroup, u64 pages)
{
	struct sample *sample;
	u64 ids;

	if (!released)
		return 0;
	sample = bpf_ringbuf_reserve(&SAMPLES, sizeof(*sample), 0);
	if (!sample) {
		released->lost_samples++;
		return 0;
	}
	ids = bpf_get_current_pid_tgid();
	sample->cgroup = cgroup;
	sample->pages = pages;
	sample->pid = ids >> 32;
	sample->thread = (u32)ids;
	bpf_get_current_comm(sample->comm, sizeof(sample->comm));
	/* Nobody is woken: the market looks when it has time. */
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
	return 0;
}

ALWAYS_INLINE void count(struct released *released, u64 cgroup, u32 order)
{
	u64 before = released->pages;
	u64 after = before + (1ULL << (order & 31));
	u32 shift = SAMPLE_SHIFT & 63;
	u64 crossed = (after >> shift) - (before >> shift);

	released->pages = after;
	released->frees++;
	if (unlikely(crossed))
		record(released, cgroup, crossed << shift);
}

/*
 * Pages that reclaim frees were written to swap, and pages that compaction frees were copied: their content lives on,
 * and the task in whose name it happens is a bystander.
 */
ALWAYS_INLINE bool reclaims(u32 task_flags)
{
	return task_flags & PF_MEMALLOC;
}

/* The verifier forbids arithmetic on pointers, and allows to copy their lower half, which is a number. */
ALWAYS_INLINE u32 low_word(const void *pointer)
{
	u32 word;

	asm("%0 = %1" : "=w"(word) : "w"((u32)(u64)pointer));
	return word;
}

SEC("tp_btf/mm_page_free")
int erased_btf(u64 *arguments)
{
	struct page *page = (struct page *)arguments[0];
	struct released *released;
	struct task_struct *task;
	struct cgroup *group;
	u64 cgroup;

	if (!(*(unsigned long *)page >> enum_value(enum pageflags, PG_swapbacked) & 1) &&
	    !(low_word(page->mapping) & PAGE_MAPPING_ANON))
		return 0;
	/*
	 * Loads instead of bpf_get_current_ancestor_cgroup_id(): every call costs some ten nanoseconds where processors
	 * are guarded against speculation. Most tasks are above the agents' level, and agents' tasks right at it.
	 */
	task = bpf_get_current_task_btf();
	group = task->cgroups->dfl_cgrp;
	if (group->level < (int)LEVEL)
		return 0;
	if (likely(group->level == (int)LEVEL))
		cgroup = group->kn->id;
	else
		cgroup = bpf_get_current_ancestor_cgroup_id(LEVEL);
	if (reclaims(task->flags))
		return 0;
	released = bpf_map_lookup_elem(&RELEASED, &cgroup);
	if (released)
		count(released, cgroup, (u32)arguments[1]);
	return 0;
}

/* The same for kernels without BTF, or older than 5.11: every look into the kernel is a call. */
SEC("raw_tp/mm_page_free")
int erased_raw(u64 *arguments)
{
	struct page *page = (struct page *)arguments[0];
	struct released *released;
	unsigned long flags = 0;
	u64 mapping = 0;
	u64 cgroup;

	bpf_probe_read_kernel(&mapping, sizeof(mapping), &page->mapping);
	if (!(mapping & PAGE_MAPPING_ANON)) {
		if (!KERNEL_KNOWN)
			return 0;
		bpf_probe_read_kernel(&flags, sizeof(flags), page);
		if (!(flags >> enum_value(enum pageflags, PG_swapbacked) & 1))
			return 0;
	}
	cgroup = bpf_get_current_ancestor_cgroup_id(LEVEL);
	released = bpf_map_lookup_elem(&RELEASED, &cgroup);
	if (!released)
		return 0;
	if (KERNEL_KNOWN) {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();
		u32 task_flags = 0;

		bpf_probe_read_kernel(&task_flags, sizeof(task_flags), &task->flags);
		if (reclaims(task_flags))
			return 0;
	}
	count(released, cgroup, (u32)arguments[1]);
	return 0;
}
