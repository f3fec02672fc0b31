/* A datagram of ours that is larger than the path to its destination, cut into fragments (RFC 791 section 3.2, RFC 8200
 * section 4.5): echo replies alone, which have to bring all of the request back (RFC 1122 section 3.2.2.6). Nothing
 * else of ours is ever larger than a packet. */
#include "stack/split.h"

#include "base/bytes.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/random.h"
#include "wire/checksum.h"

#define UN_FRAGMENT_BYTES 8u   /* IPv6: the fragment header */
#define UN_PROTOCOL_FRAGMENT 44u
#define UN_MORE_V4 0x2000u
#define UN_MORE_V6 1u

/* What is cut: all pieces of the datagram, its transport header first. */
struct whole {
    struct un_piece pieces[UN_TX_PIECES_MAX - 1];
    int count;
    uint32_t length;
};

/* `length` bytes from `skip` on; how many pieces. */
static int slice(const struct whole *whole, uint32_t skip, uint32_t length, struct un_piece *pieces)
{
    int count = 0;
    for (int i = 0; i < whole->count && length > 0; i++) {
        const struct un_piece *from = &whole->pieces[i];
        uint32_t cut = skip < from->length ? skip : from->length;
        uint32_t part = from->length - cut < length ? from->length - cut : length;
        if (part > 0)
            pieces[count++] = (struct un_piece){from->bytes + cut, part, from->frame};
        skip -= cut;
        length -= part;
    }
    return count;
}

static void emit_fragment_header(uint8_t *at, uint8_t protocol, uint16_t word, uint32_t id)
{
    un_put16(at, (uint16_t)(protocol << 8));
    un_put16(at + 2, word);
    un_put32(at + 4, id);
}

static int send_part(struct un_stack *stack, const struct un_datagram *of, const struct whole *whole, uint32_t offset,
                     uint32_t length, uint32_t id)
{
    struct un_piece pieces[UN_TX_PIECES_MAX];
    uint8_t header[UN_FRAGMENT_BYTES];
    bool is_v4 = un_ip_is_v4(&of->ip.destination), has_more = offset + length < whole->length;
    struct un_datagram part = {.ip = of->ip, .header = header, .is_fragment = true, .pieces = pieces};
    part.count = slice(whole, offset, length, pieces);
    if (is_v4) {
        part.fragment_word = (uint16_t)(offset / 8 | (has_more ? UN_MORE_V4 : 0));
        part.ip.identification = (uint16_t)id;
    } else {
        emit_fragment_header(header, of->ip.protocol, (uint16_t)(offset | (has_more ? UN_MORE_V6 : 0)), id);
        part.header_length = UN_FRAGMENT_BYTES;
        part.ip.protocol = UN_PROTOCOL_FRAGMENT;
    }
    return un_stack_send(stack, &part);
}

uint32_t un_split_room(const struct un_ip *destination, uint32_t mtu)
{
    uint32_t headers = un_ip_header_length(destination) + (un_ip_is_v4(destination) ? 0 : UN_FRAGMENT_BYTES);
    return (mtu - headers) & ~UINT32_C(7);
}

int un_stack_send_split(struct un_stack *stack, struct un_datagram *datagram, uint32_t room)
{
    struct whole whole = {.count = datagram->count + 1};
    uint8_t header[UN_ICMP_EMIT_MAX];
    un_assert(datagram->count < (int)UN_TX_PIECES_MAX - 1 && datagram->header_length <= sizeof header);
    memcpy(header, datagram->header, datagram->header_length);
    whole.pieces[0] = (struct un_piece){header, datagram->header_length, UN_NONE};
    if (datagram->count > 0)
        memcpy(whole.pieces + 1, datagram->pieces, (size_t)datagram->count * sizeof *datagram->pieces);
    for (int i = 0; i < whole.count; i++)
        whole.length += whole.pieces[i].length;
    uint16_t field = un_stack_checksum(&datagram->ip, datagram->ip.protocol, whole.pieces, whole.count);
    memcpy(header + datagram->checksum_offset, &field, sizeof field);
    uint32_t id = (uint32_t)(un_stack_random(stack) >> 32); /* RFC 7739: not to be guessed */
    for (uint32_t offset = 0; offset < whole.length; offset += room) {
        uint32_t length = whole.length - offset < room ? whole.length - offset : room;
        int result = send_part(stack, datagram, &whole, offset, length, id);
        if (result)
            return result;
    }
    return 0;
}
