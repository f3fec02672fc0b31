/* What tcp/ calls: its connections are those of a stack. */
#ifndef UN_OPERATIONS_H
#define UN_OPERATIONS_H

#include "tcp/tcp.h"

extern const struct un_tcp_operations un_stack_operations;

#endif
