/* The type Registry: all live nodes of a graph, bounds, fence time (twin: pure/registry.py). */

static PyObject *
Registry_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_nodes", "history_capacity", "first_version", NULL};
    Py_ssize_t max_nodes, capacity;
    unsigned long long first_version;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nnK", names, &max_nodes, &capacity, &first_version))
        return NULL;
    History *history = (History *)PyObject_CallFunction((PyObject *)&History_Type, "n", capacity);
    if (history == NULL)
        return NULL;
    Registry *self = (Registry *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(history);
        return NULL;
    }
    self->max_nodes = max_nodes;
    self->history = history;
    self->fence_ns = INT64_MAX;
    self->next_version = first_version;
    return (PyObject *)self;
}

static int
Registry_traverse(Registry *self, visitproc visit, void *arg)
{
    Py_VISIT(self->on_full);
    Py_VISIT(self->on_fence);
    Py_VISIT(self->on_outdated_use);
    Py_VISIT(self->clock);
    Py_VISIT((PyObject *)self->history);
    return 0;
}

static int
Registry_clear(Registry *self)
{
    Py_CLEAR(self->on_full);
    Py_CLEAR(self->on_fence);
    Py_CLEAR(self->on_outdated_use);
    Py_CLEAR(self->clock);
    return 0; /* the history stays: it is used until the end, and may outlive this */
}

static void
Registry_dealloc(Registry *self)
{
    PyObject_GC_UnTrack(self);
    Registry_clear(self);
    Py_XDECREF((PyObject *)self->history);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Both the fence time and the clock that is compared with it come through here: rounding keeps their order. */
static int64_t
as_ns(double time_s)
{
    return time_s < -9e9 ? INT64_MIN : time_s < 9e9 ? (int64_t)(time_s * 1e9) : INT64_MAX;
}

/* Let `on_fence` settle what has expired, if the fence time has passed. */
static int
fence_check(Registry *registry)
{
    if (registry->fence_ns == INT64_MAX || registry->on_fence == NULL || registry->on_fence == Py_None)
        return 0;
    if (IS_SYSTEM_CLOCK(registry->clock)) {
        if (clock_ns(FENCE_CLOCK) < registry->fence_ns)
            return 0;
    }
    else {
        double now_s = clock_s(registry->clock);
        if (now_s == -1.0 && PyErr_Occurred())
            return -1;
        if (as_ns(now_s) < registry->fence_ns)
            return 0;
    }
    PyObject *hook = Py_NewRef(registry->on_fence);
    PyObject *result = PyObject_CallNoArgs(hook);
    Py_DECREF(hook);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static Node *
next_evictable(Registry *self)
{
    Node *node;
    while ((node = queue_next_unvisited(&self->queues[EVICTABLE])) != NULL) {
        if (!is_protected(node))
            return node;
        queue_remove(self, node);
        queue_push(self, node, node->is_paged_out ? PAGED : PROTECTED);
    }
    return NULL;
}

static PyObject *
Registry_victim(Registry *self, PyObject *Py_UNUSED(ignored))
{
    Node *node = next_evictable(self);
    if (node == NULL)
        node = queue_next_unvisited(&self->queues[PAGED]);
    if (node == NULL)
        node = queue_next_unvisited(&self->queues[PROTECTED]);
    return none_or((PyObject *)node);
}

static PyObject *
Registry_heaviest_victim(Registry *self, PyObject *Py_UNUSED(ignored))
{
    Node *node = next_evictable(self);
    Queue *protected = &self->queues[PROTECTED];
    for (Py_ssize_t steps = 2 * protected->size; node == NULL && steps > 0; steps--) {
        Node *next = queue_next_unvisited(protected);
        if (next == NULL)
            break;
        if (next->weight > 0)
            node = next;
        else
            protected->hand = next->newer; /* still computing: there are no bytes to gain */
    }
    if (node == NULL)
        node = queue_next_unvisited(&self->queues[PAGED]);
    return none_or((PyObject *)node);
}

static int
check_entered(Registry *self, PyObject *object)
{
    if (!PyObject_TypeCheck(object, &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "a node is expected");
        return -1;
    }
    Node *node = (Node *)object;
    if (!node->is_entered || node->table->registry != self) {
        PyErr_SetString(PyExc_ValueError, "the node is not in this registry");
        return -1;
    }
    return 0;
}

static void
requeue(Registry *self, Node *node, int which)
{
    queue_remove(self, node);
    queue_push(self, node, which);
}

static PyObject *
Registry_page_out(Registry *self, PyObject *object)
{
    if (check_entered(self, object) < 0)
        return NULL;
    Node *node = (Node *)object;
    PyObject *value = node->output;
    node->output = NULL;
    node->is_failed = 0;
    node->is_paged_out = 1;
    requeue(self, node, PAGED);
    history_note(self->history, PAGED_OUT, node, -1, NULL, Py_None);
    Py_XDECREF(value);
    Py_RETURN_NONE;
}

static PyObject *
Registry_page_in(Registry *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "page_in takes a node and a value");
        return NULL;
    }
    if (check_entered(self, args[0]) < 0)
        return NULL;
    Node *node = (Node *)args[0];
    PyObject *old = node->output;
    node->output = Py_NewRef(args[1]);
    node->is_failed = 0;
    node->is_paged_out = 0;
    requeue(self, node, EVICTABLE);
    history_note(self->history, PAGED_IN, node, -1, NULL, Py_None);
    Py_XDECREF(old); /* last: it may run code of users */
    Py_RETURN_NONE;
}

static PyObject *
Registry_weigh(Registry *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "weigh takes a node and a number of bytes");
        return NULL;
    }
    Py_ssize_t weight = PyLong_AsSsize_t(args[1]);
    if ((weight == -1 && PyErr_Occurred()) || check_entered(self, args[0]) < 0)
        return NULL;
    Node *node = (Node *)args[0];
    if (weight < 0 || weight > PY_SSIZE_T_MAX / 2 - (self->bytes - node->weight)) {
        PyErr_SetString(PyExc_OverflowError, "a weight must be 0 or more, and all of them together a number of bytes");
        return NULL;
    }
    self->bytes += weight - node->weight;
    node->weight = weight;
    Py_RETURN_NONE;
}

static uint64_t
next_version(Registry *self)
{
    if (++self->next_version == 0)
        self->next_version = 1;
    return self->next_version;
}

static PyObject *
Registry_next_version(Registry *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(next_version(self));
}

/* Note that a node has its output: its dependencies are what they are. `failure` names the error's class, or is None. */
static void
complete(Registry *self, Node *node, PyObject *failure)
{
    Edges *dependencies = node->dependencies;
    if (dependencies != NULL && dependencies->capacity >= 8 && dependencies->size + 2 < dependencies->capacity) {
        Edges *exact = edges_with_capacity(dependencies, dependencies->size);
        if (exact == NULL)
            PyErr_Clear();
        else
            node->dependencies = exact;
    }
    if (node->extra != NULL) {
        used_free(node->extra);
        extra_trim(node);
    }
    loosened(node);
    history_note(self->history, failure == Py_None ? COMPUTED : FAILED, node, -1, NULL, failure);
}

static PyObject *
Registry_completed(Registry *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyObject_TypeCheck(args[0], &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "completed takes a node and the name of its error's class, or None");
        return NULL;
    }
    complete(self, (Node *)args[0], args[1]);
    Py_RETURN_NONE;
}

static PyObject *
Registry_succeed(Registry *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyObject_TypeCheck(args[0], &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "succeed takes a node and a value");
        return NULL;
    }
    Node *node = (Node *)args[0];
    if (node->state != COMPUTING)
        Py_RETURN_FALSE;
    PyObject *old = node->output, *computation = NULL;
    node->output = Py_NewRef(args[1]);
    node->is_failed = 0;
    if (node->extra != NULL) {
        computation = node->extra->computation;
        node->extra->computation = NULL;
    }
    if (node->version == 0)
        node->version = next_version(self);
    node->state = CONSISTENT;
    complete(self, node, Py_None);
    Py_XDECREF(old);
    Py_XDECREF(computation);
    Py_RETURN_TRUE;
}

static PyObject *
Registry_retain(Registry *Py_UNUSED(self), PyObject *object)
{
    if (!PyObject_TypeCheck(object, &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "a node is expected");
        return NULL;
    }
    ((Node *)object)->is_retained = 1;
    Py_RETURN_NONE;
}

static PyObject *
Registry_release(Registry *Py_UNUSED(self), PyObject *object)
{
    if (!PyObject_TypeCheck(object, &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "a node is expected");
        return NULL;
    }
    ((Node *)object)->is_retained = 0;
    loosened((Node *)object);
    Py_RETURN_NONE;
}

static PyObject *
Registry_loosened(Registry *Py_UNUSED(self), PyObject *object)
{
    if (!PyObject_TypeCheck(object, &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "a node is expected");
        return NULL;
    }
    loosened((Node *)object);
    Py_RETURN_NONE;
}

static PyObject *
Registry_queues(Registry *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *lists[3] = {NULL, NULL, NULL};
    for (int which = 0; which < 3; which++) {
        lists[which] = PyList_New(0);
        if (lists[which] == NULL)
            goto failed;
        Node *older = NULL;
        Py_ssize_t size = 0;
        for (Node *node = self->queues[which].oldest; node != NULL; older = node, node = node->newer, size++) {
            if (node->older != older || node->queue != which) {
                PyErr_SetString(PyExc_SystemError, "an eviction queue is not linked as it should be");
                goto failed;
            }
            if (PyList_Append(lists[which], (PyObject *)node) < 0)
                goto failed;
        }
        if (self->queues[which].newest != older || self->queues[which].size != size) {
            PyErr_SetString(PyExc_SystemError, "an eviction queue has another size or end than it says");
            goto failed;
        }
    }
    return Py_BuildValue("(NNN)", lists[0], lists[1], lists[2]);
failed:
    for (int which = 0; which < 3; which++)
        Py_XDECREF(lists[which]);
    return NULL;
}

static PyObject *
Registry_check_fence(Registry *self, PyObject *Py_UNUSED(ignored))
{
    if (fence_check(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Registry_get_fence_s(Registry *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(self->fence_ns == INT64_MAX ? Py_HUGE_VAL : (double)self->fence_ns * 1e-9);
}

static int
Registry_set_fence_s(Registry *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0)
        return -1;
    double fence_s = PyFloat_AsDouble(value);
    if (fence_s == -1.0 && PyErr_Occurred())
        return -1;
    self->fence_ns = as_ns(fence_s);
    if (IS_SYSTEM_CLOCK(self->clock) && -9e9 < fence_s && fence_s < 9e9) {
        struct timespec resolution = {0, 0};
        clock_getres(FENCE_CLOCK, &resolution); /* by so much the coarse clock may be late */
        self->fence_ns -= resolution.tv_nsec;
    }
    return 0;
}

static PyMethodDef Registry_methods[] = {
    {"victim", (PyCFunction)Registry_victim, METH_NOARGS, "Return the node to evict next so that there are fewer."},
    {"heaviest_victim", (PyCFunction)Registry_heaviest_victim, METH_NOARGS,
     "Return the node to evict, or whose value to page out, next so that there are fewer bytes."},
    {"page_out", (PyCFunction)Registry_page_out, METH_O, "Let go of the value of a consistent node; its edges stay."},
    {"page_in", (PyCFunction)(void (*)(void))Registry_page_in, METH_FASTCALL,
     "Give a paged-out node its value again."},
    {"weigh", (PyCFunction)(void (*)(void))Registry_weigh, METH_FASTCALL, "Note how many bytes a live node counts for."},
    {"completed", (PyCFunction)(void (*)(void))Registry_completed, METH_FASTCALL,
     "Note that a node has its output: its dependencies are what they are."},
    {"next_version", (PyCFunction)Registry_next_version, METH_NOARGS,
     "Return a version that this has not returned before; not 0."},
    {"succeed", (PyCFunction)(void (*)(void))Registry_succeed, METH_FASTCALL,
     "Make a node that is computing consistent, with this value; False, and nothing is done, if it is outdated."},
    {"retain", (PyCFunction)Registry_retain, METH_O, "Protect a live node until `release`."},
    {"release", (PyCFunction)Registry_release, METH_O, "End what `retain` began."},
    {"loosened", (PyCFunction)Registry_loosened, METH_O, "Hear that one reason to protect a node is gone."},
    {"queues", (PyCFunction)Registry_queues, METH_NOARGS,
     "Return the nodes of the three queues: evictable, protected, paged out."},
    {"check_fence", (PyCFunction)Registry_check_fence, METH_NOARGS, "Call `on_fence` if the fence time has passed."},
    {NULL},
};

static PyMemberDef Registry_members[] = {
    {"max_nodes", T_PYSSIZET, offsetof(Registry, max_nodes), 0, "The most nodes at any time."},
    {"size", T_PYSSIZET, offsetof(Registry, size), READONLY, "How many nodes there are."},
    {"bytes", T_PYSSIZET, offsetof(Registry, bytes), READONLY, "What they weigh together."},
    {"invalidations", T_PYSSIZET, offsetof(Registry, invalidations), READONLY, "How many have left."},
    {"on_full", T_OBJECT, offsetof(Registry, on_full), 0, "Makes room for one more node, or raises."},
    {"on_fence", T_OBJECT, offsetof(Registry, on_fence), 0, "Called by a hit after the fence time."},
    {"on_outdated_use", T_OBJECT, offsetof(Registry, on_outdated_use), 0,
     "Called with a computing node and the node, out of date, whose output it was given."},
    {"clock", T_OBJECT, offsetof(Registry, clock), 0,
     "Compared with the fence time, in seconds; None: the coarse clock of the system. Set before the fence time."},
    {"is_in_doubt", T_BOOL, offsetof(Registry, is_in_doubt), 0,
     "Calls take the long way, which asks whether a node is in doubt. Only while the fence time is finite."},
    {"history", T_OBJECT, offsetof(Registry, history), READONLY, "What happened last."},
    {NULL},
};

static PyGetSetDef Registry_getset[] = {
    {"fence_s", (getter)Registry_get_fence_s, (setter)Registry_set_fence_s,
     "Until when hits may be answered without asking, on `clock`; infinite: always.", NULL},
    {NULL},
};

static PyTypeObject Registry_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph.core._speed.Registry",
    .tp_doc = "All live nodes of one graph (see pure.registry).",
    .tp_basicsize = sizeof(Registry),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = Registry_new,
    .tp_dealloc = (destructor)Registry_dealloc,
    .tp_traverse = (traverseproc)Registry_traverse,
    .tp_clear = (inquiry)Registry_clear,
    .tp_methods = Registry_methods,
    .tp_members = Registry_members,
    .tp_getset = Registry_getset,
};
