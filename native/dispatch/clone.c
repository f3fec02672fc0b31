/* clone_sibling(): a fork of this process whose parent is this process's parent.
 *
 * A zygote forks workers that the supervisor waits for, and that the kernel kills when the supervisor dies. fork() of
 * the C library cannot do that, so the system call is made here (CLONE_PARENT), with what fork() would have done beside
 * it for a process of one thread:
 *
 *   thread id     the C library keeps it in the thread's descriptor; the kernel writes the child's there
 *                 (CLONE_CHILD_SETTID), and says where that is (PR_GET_TID_ADDRESS, which not every kernel has)
 *   robust list   of mutexes, which the kernel forgets in a child: it is registered again
 *   Python        its hooks around a fork: locks, thread states, random numbers, os.register_at_fork
 *
 * Handlers of pthread_atfork are not called. They mend what other threads held, and there is one thread: the caller has
 * made sure (shards/zygote.py). No port and no engine exists yet (fork.c). */
#include "clone.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* NULL with an exception when the kernel does not tell. */
static pid_t *thread_id_address(void)
{
    pid_t *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address) < 0 || address == NULL || *address != (pid_t)syscall(SYS_gettid)) {
        PyErr_SetString(PyExc_NotImplementedError, "the kernel does not tell where the thread id is");
        return NULL;
    }
    return address;
}

static PyObject *check_clone(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    if (!thread_id_address())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *clone_sibling(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    pid_t *thread_id = thread_id_address();
    if (!thread_id)
        return NULL;
    struct robust_list_head *mutexes = NULL;
    size_t bytes = 0;
    long known = syscall(SYS_get_robust_list, 0, &mutexes, &bytes);
    unsigned long flags = CLONE_PARENT | CLONE_PIDFD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    int pidfd = -1;
    PyOS_BeforeFork();
    /* The last two arguments are the thread id's address and one that counts without CLONE_SETTLS only; which is which
     * depends on the machine. */
    long pid = syscall(SYS_clone, flags, NULL, &pidfd, thread_id, thread_id);
    int error = errno;
    if (pid == 0) {
        if (known == 0)
            syscall(SYS_set_robust_list, mutexes, bytes);
        PyOS_AfterFork_Child();
        return Py_BuildValue("ii", 0, -1);
    }
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("li", pid, pidfd);
}

PyMethodDef un_clone_methods[] = {
    {"clone_sibling", clone_sibling, METH_NOARGS,
     "Fork this process, of one thread, as another child of its parent: (pid, pidfd), or (0, -1) in the child."},
    {"check_clone", check_clone, METH_NOARGS, "NotImplementedError: clone_sibling does not work here."},
    {NULL, NULL, 0, NULL},
};
