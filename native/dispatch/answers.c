/* Giving connections up to the worker that follows this one and serves beside it already: what is said to the engine.
 *
 * The engine asks by a MOVE, behind which no event of the connection comes until it is answered:
 *
 *   RELEASE   nothing of the connection is here that a commit does not hold: no task, no event that waits, no output
 *             in our memory. It is the successor's from then on. Its object becomes a closed one, and on_close is not
 *             called: the connection has not ended.
 *   KEEP      it is dirty. Events of it come again, and the commit that makes it clean holds a SETTLED: ask again.
 *
 * MOVEs are answered in order. An answer that finds the command ring full waits with those behind it, as a number and
 * not as an object: most connections have none. So does a SETTLED, for which a place is kept since the KEEP. */
#include "objects.h"

#define ANSWERS_FIRST_CAPACITY 64u

/* Places for one answer more, and for the SETTLED of every connection that is kept, one more included. 0, or -1 with
 * an exception. */
int un_answer_reserve(struct un_port_object *port)
{
    uint32_t needed = port->answer_count + port->kept + 2;
    if (needed <= port->answer_capacity)
        return 0;
    uint32_t capacity = port->answer_capacity ? port->answer_capacity : ANSWERS_FIRST_CAPACITY;
    while (capacity < needed)
        capacity *= 2;
    struct un_answer *answers = PyMem_Realloc(port->answers, capacity * sizeof *answers);
    if (!answers) {
        PyErr_NoMemory();
        return -1;
    }
    port->answers = answers;
    port->answer_capacity = capacity;
    return 0;
}

static void answer(struct un_port_object *port, enum un_command_op op, uint64_t id)
{
    if (port->answer_count == 0 && un_port_command(port->end, op, id, 0))
        return;
    un_assert(port->answer_count < port->answer_capacity);
    port->answers[port->answer_count++] = (struct un_answer){.conn = id, .op = op};
}

/* At a commit: those that wait, as far as there is room. */
void un_answers_place(struct un_port_object *port)
{
    uint32_t placed = 0;
    while (placed < port->answer_count &&
           un_port_command(port->end, port->answers[placed].op, port->answers[placed].conn, 0))
        placed++;
    port->answer_count -= placed;
    for (uint32_t i = 0; i < port->answer_count; i++)
        port->answers[i] = port->answers[placed + i];
}

/* The connection has no object any more; a place is reserved. */
void un_answer_release(struct un_port_object *port, uint64_t id)
{
    struct un_slot *slot = &port->slots[UN_ID_SLOT(id)];
    if (slot->generation == UN_ID_GENERATION(id))
        slot->generation = 0;
    answer(port, UN_COMMAND_RELEASE, id);
}

/* A place is reserved. */
void un_answer_keep(struct un_connection *conn)
{
    if (!(conn->flags & UN_KEPT))
        conn->port->kept++;
    conn->flags |= UN_KEPT;
    answer(conn->port, UN_COMMAND_KEEP, conn->id);
}

/* The commit to come makes it clean. */
void un_answer_settled(struct un_connection *conn)
{
    un_answer_forget(conn);
    answer(conn->port, UN_COMMAND_SETTLED, conn->id);
}

/* It has ended, or is settled: nothing more is to be said. */
void un_answer_forget(struct un_connection *conn)
{
    if (!(conn->flags & UN_KEPT))
        return;
    conn->flags &= ~(uint32_t)UN_KEPT;
    conn->port->kept--;
}
