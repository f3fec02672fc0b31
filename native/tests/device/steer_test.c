/* The steering program against the table form of the hash (stack/steering.h): for random tuples of both families, on
 * interpreted instructions, so that it needs no kernel and no privilege. That a frame and its answer are one
 * flow, too. */
#include <string.h>

#include "base/bytes.h"
#include "../check.h"
#include "device/tap_steer.h"
#include "stack/steering.h"

static uint8_t frame[128];
static uint32_t frame_length;
static struct un_steer_program program;

/* What LD_ABS and LD_IND do: big-endian, and the end of the program with 0 beyond the frame. */
static bool load(uint8_t code, uint32_t at, uint64_t *value)
{
    uint32_t size = BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
    if (at + size > frame_length)
        return false;
    *value = size == 4 ? un_get32(frame + at) : size == 2 ? un_get16(frame + at) : frame[at];
    return true;
}

static uint32_t compute(uint8_t operation, uint32_t left, uint32_t right)
{
    switch (operation) {
    case BPF_MOV:
        return right;
    case BPF_XOR:
        return left ^ right;
    case BPF_AND:
        return left & right;
    case BPF_LSH:
        return left << right;
    case BPF_RSH:
        return left >> right;
    case BPF_MOD:
        return left % right;
    default:
        check_failed(__FILE__, __LINE__, "an operation that the program uses");
    }
}

static bool jumps(uint8_t condition, uint64_t left, uint64_t right)
{
    return condition == BPF_JA || (condition == BPF_JEQ && left == right) || (condition == BPF_JSET && (left & right));
}

/* The queue the program chooses. Jumps go forward only, so it ends. */
static uint32_t run(void)
{
    uint64_t registers[11] = {0};
    for (uint32_t at = 0; at < program.count; at++) {
        const struct bpf_insn *insn = &program.code[at];
        uint64_t *to = &registers[insn->dst_reg], from = registers[insn->src_reg];
        uint64_t right = BPF_SRC(insn->code) == BPF_X ? from : (uint64_t)(int64_t)insn->imm;
        CHECK(insn->off >= 0);
        switch (BPF_CLASS(insn->code)) {
        case BPF_LD:
            if (!load(insn->code, (uint32_t)insn->imm + (BPF_MODE(insn->code) == BPF_IND ? (uint32_t)from : 0),
                      &registers[0]))
                return 0;
            break;
        case BPF_ALU:
        case BPF_ALU64:
            *to = compute(BPF_OP(insn->code), (uint32_t)*to, (uint32_t)right);
            break;
        default:
            if (BPF_OP(insn->code) == BPF_EXIT)
                return (uint32_t)registers[0];
            at += jumps(BPF_OP(insn->code), *to, right) ? (uint32_t)insn->off : 0;
        }
    }
    check_failed(__FILE__, __LINE__, "the program ends with exit");
}

struct tuple {
    struct un_ip source;
    struct un_ip destination;
    uint16_t source_port;
    uint16_t destination_port;
};

static struct tuple random_tuple(uint64_t *state, bool is_v4)
{
    struct tuple tuple;
    uint8_t bytes[36];
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)random_below(state, 256);
    tuple.source = is_v4 ? un_ip_from_v4(bytes) : un_ip_from_v6(bytes);
    tuple.destination = is_v4 ? un_ip_from_v4(bytes + 16) : un_ip_from_v6(bytes + 16);
    tuple.source_port = un_get16(bytes + 32);
    tuple.destination_port = un_get16(bytes + 34);
    return tuple;
}

static void put_ports(const struct tuple *tuple, uint32_t at)
{
    un_put16(frame + at, tuple->source_port);
    un_put16(frame + at + 2, tuple->destination_port);
    frame_length = at + 4;
}

static void frame_v4(const struct tuple *tuple, uint8_t protocol, uint32_t options)
{
    memset(frame, 0, sizeof frame);
    un_put16(frame + 12, 0x0800);
    frame[14] = (uint8_t)(0x45 + options);
    frame[20] = 0x40; /* don't fragment */
    frame[23] = protocol;
    memcpy(frame + 26, un_ip_v4(&tuple->source), 4);
    memcpy(frame + 30, un_ip_v4(&tuple->destination), 4);
    put_ports(tuple, 34 + options * 4);
}

static void frame_v6(const struct tuple *tuple, uint8_t protocol)
{
    memset(frame, 0, sizeof frame);
    un_put16(frame + 12, 0x86dd);
    frame[14] = 0x60;
    frame[20] = protocol;
    memcpy(frame + 22, tuple->source.bytes, 16);
    memcpy(frame + 38, tuple->destination.bytes, 16);
    put_ports(tuple, 54);
}

static uint32_t owner(const struct tuple *tuple, uint32_t shards)
{
    uint32_t hash = un_steering_hash(&tuple->source, &tuple->destination, tuple->source_port, tuple->destination_port);
    return un_steering_shard(hash, shards);
}

static struct tuple answer(const struct tuple *tuple)
{
    return (struct tuple){tuple->destination, tuple->source, tuple->destination_port, tuple->source_port};
}

static void the_program_agrees_with_the_hash(uint64_t seed)
{
    uint64_t state = seed;
    uint16_t queues = (uint16_t)(1 + random_below(&state, 130));
    un_steer_assemble(&program, queues);
    for (uint32_t i = 0; i < 500; i++) {
        struct tuple v4 = random_tuple(&state, true), v6 = random_tuple(&state, false);
        frame_v4(&v4, i % 2 ? 6 : 17, i % 11);
        CHECK_EQ(run(), owner(&v4, queues));
        frame_v6(&v6, i % 2 ? 6 : 17);
        CHECK_EQ(run(), owner(&v6, queues));
        v4 = answer(&v4);
        v6 = answer(&v6);
        CHECK_EQ(run(), owner(&v6, queues));
        frame_v4(&v4, 6, 0);
        CHECK_EQ(run(), owner(&v4, queues));
    }
}

static void for_random_tuples_the_program_agrees_with_the_hash(void)
{
    for_each_seed(60, the_program_agrees_with_the_hash);
}

static void each_bit_of_the_tuple_counts(void)
{
    un_steer_assemble(&program, 128);
    struct tuple tuple = {.source = un_ip_from_v4((const uint8_t[4]){10, 0, 0, 1}),
                          .destination = un_ip_from_v4((const uint8_t[4]){10, 0, 0, 2}), .source_port = 80};
    for (uint32_t bit = 0; bit < 16; bit++) {
        tuple.destination_port = (uint16_t)(1u << bit);
        frame_v4(&tuple, 6, 0);
        CHECK_EQ(run(), owner(&tuple, 128));
    }
}

/* From a tuple that is owned by another queue than 0, what has no ports of its own. */
static void frames_without_ports_go_to_queue_0(void)
{
    uint64_t state = 3;
    struct tuple tuple;
    un_steer_assemble(&program, 4);
    do
        tuple = random_tuple(&state, true);
    while (owner(&tuple, 4) == 0);
    frame_v4(&tuple, 6, 0);
    CHECK(run() != 0);
    frame[20] = 0x20; /* more fragments */
    CHECK_EQ(run(), 0);
    frame[20] = 0, frame[21] = 1; /* a later fragment */
    CHECK_EQ(run(), 0);
    frame_v4(&tuple, 1, 0); /* ICMP */
    CHECK_EQ(run(), 0);
    frame_v4(&tuple, 6, 0);
    un_put16(frame + 12, 0x8100);
    CHECK_EQ(run(), 0);
    un_put16(frame + 12, 0x0806);
    CHECK_EQ(run(), 0);
    tuple.source = tuple.destination = un_ip_from_v6(frame); /* the rest of the tuple decides */
    frame_v6(&tuple, 44); /* fragment header */
    CHECK_EQ(run(), 0);
    for (frame_v4(&tuple, 6, 0); frame_length > 0; frame_length--)
        if (frame_length < 38)
            CHECK_EQ(run(), 0);
}

int main(void)
{
    RUN(for_random_tuples_the_program_agrees_with_the_hash);
    RUN(each_bit_of_the_tuple_counts);
    RUN(frames_without_ports_go_to_queue_0);
    return 0;
}
