/* Steering of a TAP interface by the hash that owns flows (stack/steering.h): a small eBPF program, run by the kernel
 * for every frame, that computes the same queue as the software.
 *
 * Toeplitz: the hash is the xor of the 32-bit windows of the key that begin at each set bit of the input. The key
 * repeats after 16 bits (0x6d5a), so the window at bit i is the window at bit i mod 16: the hash of an input is the
 * hash of the xor of its 16-bit words, and both halves of a window are 0x6d5a rotated left by i. Of the hash only the
 * low 7 bits choose (128 entries of the indirection table), so the program xors the words of the 4-tuple, then for each
 * of 16 bits, when it is set, 7 bits of a constant. That addresses and ports are 16-bit aligned in the input makes IPv6
 * the same.
 *
 * TCP and UDP over IPv4 (options skipped) and IPv6 (directly behind the header) are hashed; fragments, tagged frames
 * and everything else go to queue 0, whose owner hands over what is not its own. */
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/steering_key.h"
#include "device/device.h"
#include "device/tap_steer.h"
#include "device/why.h"

#define ENTRIES_MASK 127 /* UN_STEERING_ENTRIES - 1 */

/* Offsets in an Ethernet frame. */
enum {
    ETHER_TYPE = 12,
    IPV4 = 14,
    IPV4_FRAGMENT = 20,
    IPV4_PROTOCOL = 23,
    IPV4_SOURCE = 26,
    IPV4_DESTINATION = 30,
    IPV6_NEXT = 20,
    IPV6_ADDRESSES = 22,
    IPV6_PORTS = 54,
};

/* Registers: 0 takes what is loaded from the packet, which clobbers 1 to 5; 6 is the packet. */
enum { LOADED = BPF_REG_0, PACKET = BPF_REG_6, WORDS = BPF_REG_7, SCRATCH = BPF_REG_8 };

static void add(struct un_steer_program *program, uint8_t code, uint8_t to, uint8_t from, int16_t offset,
                int32_t constant)
{
    un_assert(program->count < UN_STEER_PROGRAM_MAX);
    program->code[program->count++] =
        (struct bpf_insn){.code = code, .dst_reg = to & 0xfu, .src_reg = from & 0xfu, .off = offset, .imm = constant};
}

static void load(struct un_steer_program *program, uint8_t size, int32_t offset)
{
    add(program, BPF_LD | BPF_ABS | size, 0, 0, 0, offset);
}

static void with_constant(struct un_steer_program *program, uint8_t operation, uint8_t to, int32_t constant)
{
    add(program, BPF_ALU | BPF_K | operation, to, 0, 0, constant);
}

static void with_register(struct un_steer_program *program, uint8_t operation, uint8_t to, uint8_t from)
{
    add(program, BPF_ALU | BPF_X | operation, to, from, 0, 0);
}

/* A jump whose target comes later: its index, for land. */
static uint32_t jump(struct un_steer_program *program, uint8_t condition, int32_t constant)
{
    add(program, BPF_JMP | BPF_K | condition, LOADED, 0, 0, constant);
    return program->count - 1;
}

static void land(struct un_steer_program *program, uint32_t from)
{
    program->code[from].off = (int16_t)(program->count - from - 1);
}

static void leave_with(struct un_steer_program *program, int32_t queue)
{
    add(program, BPF_ALU64 | BPF_MOV | BPF_K, LOADED, 0, 0, queue);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Queue 0 unless the protocol that was loaded has ports. */
static void require_ports(struct un_steer_program *program)
{
    uint32_t is_tcp = jump(program, BPF_JEQ, 6);
    uint32_t is_udp = jump(program, BPF_JEQ, 17);
    leave_with(program, 0);
    land(program, is_tcp);
    land(program, is_udp);
}

static void xor_words_v4(struct un_steer_program *program)
{
    load(program, BPF_H, IPV4_FRAGMENT);
    uint32_t fragment = jump(program, BPF_JSET, 0x3fff);
    uint32_t whole = jump(program, BPF_JA, 0);
    land(program, fragment);
    leave_with(program, 0);
    land(program, whole);
    load(program, BPF_B, IPV4_PROTOCOL);
    require_ports(program);
    load(program, BPF_W, IPV4_SOURCE);
    with_register(program, BPF_MOV, WORDS, LOADED);
    load(program, BPF_W, IPV4_DESTINATION);
    with_register(program, BPF_XOR, WORDS, LOADED);
    load(program, BPF_B, IPV4); /* the ports lie behind the options */
    with_constant(program, BPF_AND, LOADED, 0xf);
    with_constant(program, BPF_LSH, LOADED, 2);
    with_register(program, BPF_MOV, SCRATCH, LOADED);
    add(program, BPF_LD | BPF_IND | BPF_W, 0, SCRATCH, 0, IPV4);
    with_register(program, BPF_XOR, WORDS, LOADED);
}

static void xor_words_v6(struct un_steer_program *program)
{
    load(program, BPF_B, IPV6_NEXT);
    require_ports(program);
    with_constant(program, BPF_MOV, WORDS, 0);
    for (int32_t at = IPV6_ADDRESSES; at <= IPV6_PORTS; at += 4) {
        load(program, BPF_W, at);
        with_register(program, BPF_XOR, WORDS, LOADED);
    }
}

/* From the xor of the 32-bit words of the tuple to the queue. */
static void hash_words(struct un_steer_program *program, uint16_t queues)
{
    with_register(program, BPF_MOV, SCRATCH, WORDS);
    with_constant(program, BPF_RSH, SCRATCH, 16);
    with_register(program, BPF_XOR, SCRATCH, WORDS);
    with_constant(program, BPF_MOV, WORDS, 0);
    for (uint32_t bit = 0; bit < 16; bit++) {
        uint32_t window = UN_STEERING_KEY << bit | UN_STEERING_KEY >> (16 - bit);
        add(program, BPF_JMP | BPF_JSET | BPF_K, SCRATCH, 0, 1, 0x8000 >> bit);
        add(program, BPF_JMP | BPF_JA, 0, 0, 1, 0);
        with_constant(program, BPF_XOR, WORDS, (int32_t)(window & ENTRIES_MASK));
    }
    with_register(program, BPF_MOV, LOADED, WORDS);
    with_constant(program, BPF_MOD, LOADED, queues);
    add(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

void un_steer_assemble(struct un_steer_program *program, uint16_t queues)
{
    program->count = 0;
    add(program, BPF_ALU64 | BPF_MOV | BPF_X, PACKET, BPF_REG_1, 0, 0);
    load(program, BPF_H, ETHER_TYPE);
    uint32_t is_v4 = jump(program, BPF_JEQ, 0x0800);
    uint32_t is_v6 = jump(program, BPF_JEQ, 0x86dd);
    leave_with(program, 0);
    land(program, is_v4);
    xor_words_v4(program);
    uint32_t hash = jump(program, BPF_JA, 0);
    land(program, is_v6);
    xor_words_v6(program);
    land(program, hash);
    hash_words(program, queues);
}

int un_steer_load(uint16_t queues)
{
    struct un_steer_program program;
    un_steer_assemble(&program, queues);
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = (uintptr_t)program.code;
    attributes.insn_cnt = program.count;
    attributes.license = (uintptr_t) "BSD";
    memcpy(attributes.prog_name, "usnet_steer", sizeof "usnet_steer");
    long fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
    return fd < 0 ? -errno : (int)fd;
}

int un_tap_steer(int fd, uint16_t queues, const char **why)
{
    un_assert(queues > 0);
    int program = un_steer_load(queues);
    if (program < 0) {
        *why = un_why("steering needs an eBPF program, which the kernel does not load: %s (CAP_BPF or CAP_SYS_ADMIN?)",
                      strerror(-program));
        return program;
    }
    int error = ioctl(fd, TUNSETSTEERINGEBPF, &program) < 0 ? -errno : 0;
    close(program); /* the interface keeps it */
    if (error)
        *why = un_why("the TAP interface does not take a steering program: %s", strerror(-error));
    return error;
}
