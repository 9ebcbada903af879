/* A ring of the last events of a graph (twin: pure/history.py). */

/* References that are to be dropped later. */
typedef struct {
    PyObject **items;
    Py_ssize_t size, allocated;
} References;

static void
references_add(References *references, PyObject *item)
{
    if (references->size == references->allocated) {
        Py_ssize_t allocated = references->allocated ? 2 * references->allocated : 8;
        PyObject **items = PyMem_Realloc(references->items, allocated * sizeof(PyObject *));
        if (items == NULL)
            return; /* better a leak than code of users in the midst of a change */
        references->items = items;
        references->allocated = allocated;
    }
    references->items[references->size++] = item;
}

static void
references_drop(References *references)
{
    for (Py_ssize_t i = 0; i < references->size; i++)
        Py_DECREF(references->items[i]);
    PyMem_Free(references->items);
    references->items = NULL;
    references->size = references->allocated = 0;
}

/* What stands for `history` in `other`; NULL when that is the same one. */
static inline PyObject *
home_of(History *history, History *other)
{
    return history == other ? NULL : history->home;
}

/* Note an event; return its number. What it displaces goes into `trash`. */
static int64_t
history_record(History *history, int kind, Node *node, int64_t via, PyObject *home, PyObject *cause, double time_s,
               References *trash)
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
        references_add(trash, event->table);
        references_add(trash, event->key);
        references_add(trash, event->cause);
        if (event->home != NULL)
            references_add(trash, event->home);
    }
    event->table = Py_NewRef((PyObject *)node->table);
    event->key = Py_NewRef(node->key);
    event->cause = Py_NewRef(cause);
    event->home = Py_XNewRef(home);
    event->version = node->version;
    event->via = via;
    event->time_s = time_s;
    event->kind = kind;
    return number;
}

/* The time by which events are dated. A clock that fails is reported, and the system's stands for it. */
static double
history_now_s(History *history)
{
    if (history->capacity > 0 && !IS_SYSTEM_CLOCK(history->clock)) {
        double now_s = clock_s(history->clock);
        if (now_s != -1.0 || !PyErr_Occurred())
            return now_s;
        PyErr_WriteUnraisable((PyObject *)history);
    }
    return (double)clock_ns(EVENT_CLOCK) * 1e-9;
}

static int64_t
history_note(History *history, int kind, Node *node, int64_t via, PyObject *home, PyObject *cause)
{
    References trash = {0};
    double time_s = history_now_s(history);
    int64_t number = history_record(history, kind, node, via, home, cause, time_s, &trash);
    references_drop(&trash);
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
        Py_VISIT(self->events[i].home);
    }
    Py_VISIT(self->home);
    Py_VISIT(self->clock);
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
        Py_XDECREF(events[i].home);
    }
    PyMem_Free(events);
    Py_CLEAR(self->home);
    Py_CLEAR(self->clock);
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
    PyObject *node, *cause, *home = Py_None;
    if (!PyArg_ParseTuple(args, "iO!LO|O", &kind, &Node_Type, &node, &via, &cause, &home))
        return NULL;
    return PyLong_FromLongLong(
        history_note(self, kind, (Node *)node, via, home == Py_None ? NULL : home, cause));
}

static PyObject *
History_invalidation_of(History *self, PyObject *object)
{
    if (!PyObject_TypeCheck(object, &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "a node is expected");
        return NULL;
    }
    Node *node = (Node *)object;
    int64_t kept = self->count < self->allocated ? self->count : self->allocated;
    if (kept > MAX_SEARCHED)
        kept = MAX_SEARCHED;
    for (int64_t number = self->count - 1; number >= self->count - kept; number--) {
        Event *event = &self->events[number % self->allocated];
        if (event->kind == OUT_OF_DATE && event->key == node->key && event->table == (PyObject *)node->table)
            return Py_BuildValue("(LN)", (long long)number, Py_NewRef(event->cause));
    }
    Py_RETURN_NONE;
}

/* The event of that number, or NULL if it is forgotten. */
static Event *
history_at(History *self, int64_t number)
{
    if (number < 0 || number >= self->count || self->count - number > self->allocated)
        return NULL;
    Event *event = &self->events[number % self->allocated];
    return event->table == NULL ? NULL : event;
}

/* With references of its own: building may set off Python's garbage collector, and that new events. */
static PyObject *
event_tuple(Event *event, int64_t number)
{
    return Py_BuildValue("(LiNNKLNdN)", (long long)number, event->kind,
                         Py_NewRef(((Table *)event->table)->function), Py_NewRef(event->key),
                         (unsigned long long)event->version, (long long)event->via, Py_NewRef(event->cause),
                         event->time_s, Py_NewRef(event->home != NULL ? event->home : Py_None));
}

static PyObject *
History_event(History *self, PyObject *object)
{
    int64_t number = PyLong_AsLongLong(object);
    if (number == -1 && PyErr_Occurred())
        return NULL;
    Event *event = history_at(self, number);
    if (event == NULL)
        Py_RETURN_NONE;
    return event_tuple(event, number);
}

/* Whether an event, if there still is one of that number, is about that key of that function; -1: comparing failed. */
static int
is_event_of(History *self, int64_t number, PyObject *function, PyObject *key)
{
    Event *event = history_at(self, number);
    if (event == NULL || ((Table *)event->table)->function != function)
        return 0;
    PyObject *its_key = Py_NewRef(event->key);
    int is_same = PyObject_RichCompareBool(its_key, key, Py_EQ);
    Py_DECREF(its_key);
    return is_same;
}

static PyObject *
History_events_of(History *self, PyObject *args)
{
    PyObject *function, *key;
    if (!PyArg_ParseTuple(args, "OO", &function, &key))
        return NULL;
    PyObject *list = PyList_New(0);
    int64_t end = self->count;
    for (int64_t number = end > self->allocated ? end - self->allocated : 0; list != NULL && number < end; number++) {
        int is_one = is_event_of(self, number, function, key);
        Event *event = is_one > 0 ? history_at(self, number) : NULL; /* comparing may have displaced it */
        if (is_one == 0 || (is_one > 0 && event == NULL))
            continue;
        PyObject *item = event == NULL ? NULL : event_tuple(event, number);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *
History_events(History *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    if (list == NULL)
        return NULL;
    Py_ssize_t kept = self->count < self->allocated ? (Py_ssize_t)self->count : self->allocated;
    int64_t end = self->count;
    for (int64_t number = end - kept; number < end; number++) {
        Event *event = history_at(self, number);
        if (event == NULL)
            continue; /* displaced meanwhile */
        PyObject *item = event_tuple(event, number);
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
        Py_XDECREF(event.home);
        if (self->events == NULL)
            break;
    }
    Py_RETURN_NONE;
}

static PyMethodDef History_methods[] = {
    {"record", (PyCFunction)History_record, METH_VARARGS, "Note what happened to a node; return the event's number."},
    {"invalidation_of", (PyCFunction)History_invalidation_of, METH_O,
     "Return number and cause of the event by which a node has become out of date, if it is not long ago."},
    {"event", (PyCFunction)History_event, METH_O, "Return the event of that number, or None if it is forgotten."},
    {"events_of", (PyCFunction)History_events_of, METH_VARARGS,
     "Return the events of one table key of a compute function, oldest first."},
    {"events", (PyCFunction)History_events, METH_NOARGS, "Return what is kept, oldest first."},
    {"clear", (PyCFunction)History_clear, METH_NOARGS, "Forget all."},
    {NULL},
};

static PyMemberDef History_members[] = {
    {"home", T_OBJECT, offsetof(History, home), 0, "Stands for this history in the events of others."},
    {"clock", T_OBJECT, offsetof(History, clock), 0,
     "Dates the events, in seconds since 1970; None: the coarse clock of the system."},
    {NULL},
};

static PyTypeObject History_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph.core._speed.History",
    .tp_doc = "The last events of a graph (see pure.history).",
    .tp_basicsize = sizeof(History),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = History_new,
    .tp_dealloc = (destructor)History_dealloc,
    .tp_traverse = (traverseproc)History_traverse,
    .tp_clear = (inquiry)History_clear_slot,
    .tp_methods = History_methods,
    .tp_members = History_members,
};
