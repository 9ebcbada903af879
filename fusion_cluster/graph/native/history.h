/* A ring of the last events of a graph (twin: pure/history.py). */

/* References that are to be dropped later. */
typedef struct {
    PyObject **items;
    Py_ssize_t size, allocated;
} Trash;

static void
trash_add(Trash *trash, PyObject *item)
{
    if (trash->size == trash->allocated) {
        Py_ssize_t allocated = trash->allocated ? 2 * trash->allocated : 64;
        PyObject **items = PyMem_Realloc(trash->items, allocated * sizeof(PyObject *));
        if (items == NULL)
            return; /* better a leak than code of users in the midst of a change */
        trash->items = items;
        trash->allocated = allocated;
    }
    trash->items[trash->size++] = item;
}

static void
trash_empty(Trash *trash)
{
    for (Py_ssize_t i = 0; i < trash->size; i++)
        Py_DECREF(trash->items[i]);
    PyMem_Free(trash->items);
    trash->items = NULL;
    trash->size = trash->allocated = 0;
}

/* Note an event; return its number. What it displaces goes into `trash`. */
static int64_t
history_record(History *history, int kind, Node *node, int64_t via, PyObject *cause, double time_s, Trash *trash)
{
    int64_t number = history->count++;
    if (history->capacity == 0)
        return number;
    if (number >= history->allocated && history->allocated < history->capacity) {
        Py_ssize_t allocated = history->allocated ? 4 * history->allocated : 16;
        if (allocated > history->capacity)
            allocated = history->capacity;
        Event *events = PyMem_Realloc(history->events, allocated * sizeof(Event));
        if (events == NULL) {
            if (history->allocated == 0)
                return number;
            history->capacity = history->allocated; /* no more memory: keep what there is room for */
        }
        else {
            memset(events + history->allocated, 0, (allocated - history->allocated) * sizeof(Event));
            history->events = events;
            history->allocated = allocated;
        }
    }
    Event *event = &history->events[number % history->allocated];
    if (event->table != NULL) {
        trash_add(trash, event->table);
        trash_add(trash, event->key);
        trash_add(trash, event->cause);
    }
    event->table = Py_NewRef((PyObject *)node->table);
    event->key = Py_NewRef(node->key);
    event->cause = Py_NewRef(cause);
    event->version = node->version;
    event->via = via;
    event->time_s = time_s;
    event->kind = kind;
    return number;
}

static int64_t
history_note(History *history, int kind, Node *node, int64_t via, PyObject *cause)
{
    Trash trash = {0};
    double time_s = (double)clock_ns(EVENT_CLOCK) * 1e-9;
    int64_t number = history_record(history, kind, node, via, cause, time_s, &trash);
    trash_empty(&trash);
    return number;
}

static PyObject *
History_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n", names, &capacity))
        return NULL;
    History *self = (History *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->capacity = capacity < 0 ? 0 : capacity;
    return (PyObject *)self;
}

static int
History_traverse(History *self, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < self->allocated; i++) {
        Py_VISIT(self->events[i].table);
        Py_VISIT(self->events[i].key);
        Py_VISIT(self->events[i].cause);
    }
    return 0;
}

static int
History_clear_slot(History *self)
{
    Event *events = self->events;
    Py_ssize_t allocated = self->allocated;
    self->events = NULL;
    self->allocated = 0;
    for (Py_ssize_t i = 0; i < allocated; i++) {
        Py_XDECREF(events[i].table);
        Py_XDECREF(events[i].key);
        Py_XDECREF(events[i].cause);
    }
    PyMem_Free(events);
    return 0;
}

static void
History_dealloc(History *self)
{
    PyObject_GC_UnTrack(self);
    History_clear_slot(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
History_record(History *self, PyObject *args)
{
    int kind;
    long long via;
    PyObject *node, *cause;
    if (!PyArg_ParseTuple(args, "iO!LO", &kind, &Node_Type, &node, &via, &cause))
        return NULL;
    return PyLong_FromLongLong(history_note(self, kind, (Node *)node, via, cause));
}

static PyObject *
History_events(History *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    if (list == NULL)
        return NULL;
    Py_ssize_t kept = self->count < self->allocated ? (Py_ssize_t)self->count : self->allocated;
    for (int64_t number = self->count - kept; number < self->count; number++) {
        Event *event = &self->events[number % self->allocated];
        if (event->table == NULL)
            continue;
        PyObject *item = Py_BuildValue("(LiOOKLOd)", (long long)number, event->kind, ((Table *)event->table)->function,
                                       event->key, (unsigned long long)event->version, (long long)event->via,
                                       event->cause, event->time_s);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_XDECREF(item);
            Py_DECREF(list);
            return NULL;
        }
        Py_DECREF(item);
    }
    return list;
}

static PyObject *
History_clear(History *self, PyObject *Py_UNUSED(ignored))
{
    for (Py_ssize_t i = 0; i < self->allocated; i++) {
        Event event = self->events[i];
        memset(&self->events[i], 0, sizeof(Event));
        Py_XDECREF(event.table);
        Py_XDECREF(event.key);
        Py_XDECREF(event.cause);
        if (self->events == NULL)
            break;
    }
    Py_RETURN_NONE;
}

static PyMethodDef History_methods[] = {
    {"record", (PyCFunction)History_record, METH_VARARGS, "Note what happened to a node; return the event's number."},
    {"events", (PyCFunction)History_events, METH_NOARGS, "Return what is kept, oldest first."},
    {"clear", (PyCFunction)History_clear, METH_NOARGS, "Forget all."},
    {NULL},
};

static PyTypeObject History_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph._speed.History",
    .tp_doc = "The last events of a graph (see pure.history).",
    .tp_basicsize = sizeof(History),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = History_new,
    .tp_dealloc = (destructor)History_dealloc,
    .tp_traverse = (traverseproc)History_traverse,
    .tp_clear = (inquiry)History_clear_slot,
    .tp_methods = History_methods,
};
