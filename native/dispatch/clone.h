/* Forks of a zygote that are children of the supervisor. See clone.c. */
#ifndef UN_DISPATCH_CLONE_H
#define UN_DISPATCH_CLONE_H

#include "objects.h"

extern PyMethodDef un_clone_methods[]; /* clone_sibling, check_clone */

#endif
