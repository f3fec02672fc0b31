/* The engine in this process: what a Port needs of it. See inline.c. */
#ifndef UN_DISPATCH_INLINE_H
#define UN_DISPATCH_INLINE_H

#include "objects.h"

extern PyType_Spec un_engine_spec;

/* A port over the engine's memories, which its object keeps mapped. 0 or -errno. */
int un_inline_attach(PyObject *engine, struct un_port *end);

/* After a commit: let the engine act on it at once. */
void un_inline_take_commits(PyObject *engine);

#endif
