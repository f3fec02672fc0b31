/* See capture_filter.h. */
#include "engine/capture_filter.h"

#include "base/attributes.h"
#include "base/bytes.h"

/* The packet, and the two registers and the memory of the program. */
struct machine {
    const struct iovec *pieces;
    int count;
    uint32_t length;
    uint32_t a;
    uint32_t x;
    uint32_t memory[BPF_MEMWORDS];
};

/* ---- check ---- */

static bool is_load(uint16_t code)
{
    switch (code) {
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
    case BPF_LD | BPF_W | BPF_IND:
    case BPF_LD | BPF_H | BPF_IND:
    case BPF_LD | BPF_B | BPF_IND:
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_B | BPF_MSH:
    case BPF_LDX | BPF_IMM:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
        return true;
    default:
        return false;
    }
}

static bool is_memory(uint16_t code)
{
    return code == (BPF_LD | BPF_MEM) || code == (BPF_LDX | BPF_MEM) || code == BPF_ST || code == BPF_STX;
}

static bool is_alu(const struct sock_filter *at)
{
    if (BPF_CLASS(at->code) != BPF_ALU || (at->code & ~0xffu))
        return false;
    bool is_constant = BPF_SRC(at->code) == BPF_K;
    switch (BPF_OP(at->code)) {
    case BPF_ADD:
    case BPF_SUB:
    case BPF_MUL:
    case BPF_AND:
    case BPF_OR:
    case BPF_XOR:
        return true;
    case BPF_NEG:
        return is_constant;
    case BPF_DIV:
    case BPF_MOD:
        return !is_constant || at->k != 0;
    case BPF_LSH:
    case BPF_RSH:
        return !is_constant || at->k < 32;
    default:
        return false;
    }
}

/* `behind`: instructions that follow. */
static bool is_jump(const struct sock_filter *at, uint32_t behind)
{
    if (at->code == (BPF_JMP | BPF_JA))
        return at->k < behind;
    switch (at->code & ~BPF_X) {
    case BPF_JMP | BPF_JEQ:
    case BPF_JMP | BPF_JGT:
    case BPF_JMP | BPF_JGE:
    case BPF_JMP | BPF_JSET:
        return at->jt < behind && at->jf < behind;
    default:
        return false;
    }
}

static bool is_return(uint16_t code)
{
    return code == (BPF_RET | BPF_K) || code == (BPF_RET | BPF_A);
}

bool un_capture_filter_check(const struct sock_filter *program, uint32_t count)
{
    if (count == 0 || count > UN_CAPTURE_PROGRAM_MAX || !is_return(program[count - 1].code))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct sock_filter *at = &program[i];
        bool is_known = is_load(at->code) || is_return(at->code) || is_alu(at) || is_jump(at, count - i - 1) ||
                        (is_memory(at->code) && at->k < BPF_MEMWORDS);
        if (!is_known)
            return false;
    }
    return true;
}

/* ---- run ---- */

static bool read_byte(const struct machine *machine, uint32_t at, uint8_t *value)
{
    for (int i = 0; i < machine->count; i++) {
        if (at < machine->pieces[i].iov_len) {
            *value = ((const uint8_t *)machine->pieces[i].iov_base)[at];
            return true;
        }
        at -= (uint32_t)machine->pieces[i].iov_len;
    }
    return false;
}

/* Headers lie in the first piece. */
static bool read_packet(const struct machine *machine, uint64_t at, uint32_t size, uint32_t *value)
{
    if (at + size > machine->length)
        return false;
    const uint8_t *first = machine->pieces[0].iov_base;
    if (at + size <= machine->pieces[0].iov_len) {
        *value = size == 4 ? un_get32(first + at) : size == 2 ? un_get16(first + at) : first[at];
        return true;
    }
    *value = 0;
    for (uint32_t i = 0; i < size; i++) {
        uint8_t byte;
        if (!read_byte(machine, (uint32_t)at + i, &byte))
            return false;
        *value = *value << 8 | byte;
    }
    return true;
}

static uint32_t size_of(uint16_t code)
{
    return BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

/* false: beyond the end of the packet. */
static bool load(struct machine *machine, const struct sock_filter *at)
{
    uint32_t value = 0;
    switch (BPF_MODE(at->code)) {
    case BPF_ABS:
        return read_packet(machine, at->k, size_of(at->code), &machine->a);
    case BPF_IND:
        return read_packet(machine, (uint64_t)machine->x + at->k, size_of(at->code), &machine->a);
    case BPF_MSH: /* the length of an IPv4 header */
        if (!read_packet(machine, at->k, 1, &value))
            return false;
        machine->x = (value & 15) << 2;
        return true;
    case BPF_LEN:
        value = machine->length;
        break;
    case BPF_MEM:
        value = machine->memory[at->k];
        break;
    default:
        value = at->k;
        break;
    }
    *(BPF_CLASS(at->code) == BPF_LD ? &machine->a : &machine->x) = value;
    return true;
}

/* false: a division by zero, which refuses the packet. */
static bool compute(struct machine *machine, const struct sock_filter *at)
{
    uint32_t by = BPF_SRC(at->code) == BPF_K ? at->k : machine->x;
    switch (BPF_OP(at->code)) {
    case BPF_ADD: machine->a += by; break;
    case BPF_SUB: machine->a -= by; break;
    case BPF_MUL: machine->a *= by; break;
    case BPF_AND: machine->a &= by; break;
    case BPF_OR: machine->a |= by; break;
    case BPF_XOR: machine->a ^= by; break;
    case BPF_LSH: machine->a = by < 32 ? machine->a << by : 0; break;
    case BPF_RSH: machine->a = by < 32 ? machine->a >> by : 0; break;
    case BPF_DIV:
        if (by == 0)
            return false;
        machine->a /= by;
        break;
    case BPF_MOD:
        if (by == 0)
            return false;
        machine->a %= by;
        break;
    default: machine->a = -machine->a; break;
    }
    return true;
}

/* How many instructions are skipped. */
static uint32_t jump(const struct machine *machine, const struct sock_filter *at)
{
    uint32_t with = BPF_SRC(at->code) == BPF_K ? at->k : machine->x;
    bool is_so;
    switch (BPF_OP(at->code)) {
    case BPF_JA: return at->k;
    case BPF_JEQ: is_so = machine->a == with; break;
    case BPF_JGT: is_so = machine->a > with; break;
    case BPF_JGE: is_so = machine->a >= with; break;
    default: is_so = machine->a & with; break;
    }
    return is_so ? at->jt : at->jf;
}

/* One instruction. `next` is set to the one that follows; false: the packet is refused. */
static UN_NEVER_INLINE bool step(struct machine *machine, const struct sock_filter **next)
{
    const struct sock_filter *at = (*next)++;
    switch (BPF_CLASS(at->code)) {
    case BPF_LD:
    case BPF_LDX:
        return load(machine, at);
    case BPF_ST:
        machine->memory[at->k] = machine->a;
        return true;
    case BPF_STX:
        machine->memory[at->k] = machine->x;
        return true;
    case BPF_ALU:
        return compute(machine, at);
    case BPF_JMP:
        *next += jump(machine, at);
        return true;
    default: /* BPF_MISC */
        *(BPF_MISCOP(at->code) == BPF_TAX ? &machine->x : &machine->a) =
            BPF_MISCOP(at->code) == BPF_TAX ? machine->a : machine->x;
        return true;
    }
}

/* What most programs are made of is done here: fields of headers, and comparisons. */
bool un_capture_filter_takes(const struct sock_filter *program, const struct iovec *pieces, int count, uint32_t length)
{
    struct machine machine = {.pieces = pieces, .count = count, .length = length};
    const uint8_t *first = pieces[0].iov_base;
    uint64_t there = pieces[0].iov_len;
    for (const struct sock_filter *at = program;;) {
        if (at->code == (BPF_JMP | BPF_JEQ | BPF_K)) {
            at += 1 + (machine.a == at->k ? at->jt : at->jf);
        } else if (at->code == (BPF_LD | BPF_H | BPF_ABS) && at->k + UINT64_C(2) <= there) {
            machine.a = un_get16(first + at++->k);
        } else if (at->code == (BPF_LD | BPF_B | BPF_ABS) && at->k < there) {
            machine.a = first[at++->k];
        } else if (at->code == (BPF_LD | BPF_W | BPF_ABS) && at->k + UINT64_C(4) <= there) {
            machine.a = un_get32(first + at++->k);
        } else if (BPF_CLASS(at->code) == BPF_RET) {
            return (BPF_RVAL(at->code) == BPF_K ? at->k : machine.a) != 0;
        } else if (!step(&machine, &at)) {
            return false;
        }
    }
}
