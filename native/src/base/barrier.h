/* All memory ordering of the project.
 *
 * Shared words are C11 atomics; nothing else in the tree names a memory order. Two protocols are built from these
 * verbs:
 *
 *   publish   fill slots, then un_publish the index; the other side un_observes the index, then reads the slots.
 *   sleep     (Dekker) the consumer stores sleeping = 1, un_fence, looks at the index once more, sleeps;
 *             the producer publishes the index, un_fence, looks at sleeping, wakes. One of the two sees the other.
 *
 * un_compiler_fence orders one thread against its own sudden death: the stores before it are in memory when one after
 * it is. Killed at any instruction, a process leaves memory as program order says, so nothing stronger
 * is needed. */
#ifndef UN_BARRIER_H
#define UN_BARRIER_H

#include <stdatomic.h>
#include <stdint.h>

#define UN_CACHE_LINE 64

typedef _Atomic uint32_t un_shared32;
typedef _Atomic uint64_t un_shared64;

#define un_publish(word, value) atomic_store_explicit((word), (value), memory_order_release)
#define un_observe(word) atomic_load_explicit((word), memory_order_acquire)
#define un_store(word, value) atomic_store_explicit((word), (value), memory_order_relaxed)
#define un_load(word) atomic_load_explicit((word), memory_order_relaxed)

/* One writer: a plain add, no locked instruction. */
#define un_count(word, more) un_store((word), un_load(word) + (more))

static inline void un_compiler_fence(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

#if defined(__SANITIZE_THREAD__)
#define UN_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UN_THREAD_SANITIZER 1
#endif
#endif

static inline void un_fence(void)
{
#if defined(UN_THREAD_SANITIZER)
    /* ThreadSanitizer does not model fences; a sequentially consistent exchange on a private word orders as much. */
    static _Atomic int word;
    atomic_exchange(&word, 1);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void un_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
