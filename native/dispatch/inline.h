/* The engine in this process: what a Port needs of it. See inline.c. */
#ifndef UN_DISPATCH_INLINE_H
#define UN_DISPATCH_INLINE_H

#include "objects.h"

extern PyType_Spec un_engine_spec;

/* A port over the engine's memories, which its object keeps mapped. 0, or -errno with *why a
 * sentence where there is one. */
int un_inline_attach(PyObject *engine, struct un_port *end, const char **why);

/* A segment that a port or an engine refused: ValueError with the reason, OSError where there is none. */
void un_raise_segment(int error, const char *why);

/* After a commit: let the engine act on it at once. */
void un_inline_take_commits(PyObject *engine);

#endif
