/* What the stack itself asks of connections: conn.c is what the application calls. */
#ifndef UN_STACK_CONN_H
#define UN_STACK_CONN_H

#include "stack/arena.h"

void un_stack_conn_abort(struct un_stack *stack, struct un_tcb *tcb); /* reset, and no more of the application's */

#endif
