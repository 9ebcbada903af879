/* The hot path of the graph in C: the twin of the Python package `pure`, with the same names and the same semantics.
 *
 * What is here: `Node` (base of Computed), `Table` (the live nodes of one compute function), `Registry` (all live nodes
 * of a graph: eviction queues, bounds, fence time), `History` (a ring of the last events), `Call` (a bound compute
 * method), `ServiceMethodHit` (base of the descriptor in the class), and `capture`, `link`, `unlink`, `mark`.
 *
 * Who owns what
 *   Table    owns (counts) its nodes, its registry and its function.
 *   Node     owns its table, key and output, and the rare things in `Extra`. Edges are *borrowed* in both directions:
 *            they exist between live nodes only, a live node is owned by its table, and whoever leaves the table loses
 *            its edges first (`mark`, `table_release`, and `node_dealloc` to be safe).
 *   Registry owns its history and hooks. The eviction queues run through the nodes and are borrowed; a node is in a
 *            queue if and only if it is in its table.
 *   History  owns the tables, keys and causes of its events.
 *   Call     owns its table, `find`, descriptor and instance. The descriptor's cache of the last call is borrowed; the
 *            call takes itself out of it when it goes.
 *
 * Garbage collection
 *   A million tracked objects would stop the process for as long as the collector needs to walk them. So a node that
 *   enters a registry of more than TRACKED nodes is not tracked while it is live (its table holds it anyway), and is
 *   tracked once it has left, when only its holders decide about its life. A table of more than TRACKED nodes is not
 *   walked either. What is not walked looks held from outside: a large graph that is dropped without being closed stays.
 *
 * Re-entrance
 *   Code of users may run in comparisons of keys, in hooks, and where a reference is dropped. No such thing happens
 *   while edges, tables or queues are being changed: `mark` drops all references at its end, the table notices by its
 *   version when a comparison has changed it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <structmember.h>
#include <time.h>

#define TRACKED 10000   /* registries up to this size are known to Python's garbage collector */
#define SCANNED 16      /* edges that are searched one by one; beyond, by a hash set */
#define MAX_PARAMETERS 8 /* of a call whose keywords are sorted here; others take the slow way */

enum { COMPUTING, CONSISTENT, OUTDATED, INVALIDATED };
enum { EVICTABLE, PROTECTED, PAGED, NO_QUEUE };
enum { COMPUTED, FAILED, OUT_OF_DATE, PAGED_OUT };

typedef struct Node Node;
typedef struct Table Table;
typedef struct Registry Registry;
typedef struct History History;
typedef struct Call Call;

/* ---- structures -------------------------------------------------------------------------------------------------- */

/* One end of several edges: `capacity` pointers to nodes, then as many places of the same edge at its other end. */
typedef struct {
    uint32_t size;
    uint32_t capacity;
} Edges;

#define PEERS(edges) ((Node **)((edges) + 1))
#define PLACES(edges) ((uint32_t *)(PEERS(edges) + (edges)->capacity))

/* What few nodes have, and then not for long. */
typedef struct {
    PyObject *observers;   /* a callable, or a dict of them */
    PyObject *computation; /* what runs the node */
    PyObject *expiry;      /* the timer that will invalidate it */
    Node **used;           /* hash set of its dependencies, while it computes and they are many */
    size_t used_mask;
    size_t used_size;
} Extra;

struct Node {
    PyObject_HEAD
    Table *table;
    PyObject *key;    /* the argument, or the tuple of arguments */
    Py_hash_t hash;   /* of the key, as the table counts it */
    uint64_t version;
    PyObject *output; /* the value; the Failure if `is_failed`; NULL while there is none */
    Edges *dependencies;
    Edges *dependents;
    Extra *extra;
    Node *older;      /* neighbours in the eviction queue; `mark` uses both for itself once the node has left it */
    Node *newer;
    Py_ssize_t weight;
    uint8_t state;
    uint8_t queue;
    uint8_t was_hit;
    uint8_t is_failed : 1;
    uint8_t is_paged_out : 1;
    uint8_t is_retained : 1;
    uint8_t is_entered : 1; /* in its table, which owns it, and in a queue */
};

typedef struct {
    Node *oldest, *newest, *hand;
    Py_ssize_t size;
} Queue;

typedef struct {
    PyObject *table; /* a Table, or NULL in a place that is not used yet */
    PyObject *key;
    PyObject *cause;
    uint64_t version;
    int64_t via;
    double time_s;
    int kind;
} Event;

struct History {
    PyObject_HEAD
    Event *events;
    Py_ssize_t capacity;  /* most events kept */
    Py_ssize_t allocated;
    int64_t count;        /* events ever */
};

struct Registry {
    PyObject_HEAD
    Py_ssize_t max_nodes;
    Py_ssize_t size;
    Py_ssize_t bytes;
    Py_ssize_t invalidations;
    PyObject *on_full;
    PyObject *on_fence;
    History *history;
    int64_t fence_ns;
    uint64_t next_version;
    Queue queues[3];
};

struct Table {
    PyObject_HEAD
    Registry *registry;
    PyObject *function;
    PyTypeObject *node_type;
    Node **slots; /* open addressing; NULL: never used, GONE: used before */
    size_t mask;
    Py_ssize_t used;
    Py_ssize_t filled; /* used ones and gone ones */
    uint64_t version;  /* changes with every change of the slots */
    Py_ssize_t hits;
    char is_keyed_by_argument;
    char is_delayed;
};

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *instance; /* borrowed, of the last call */
    Call *call;         /* borrowed, what it was bound to */
} ServiceMethodHit;

struct Call {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Table *table;
    PyObject *find;
    PyObject *descriptor;
    PyObject *instance;
    PyObject *names;    /* of the parameters in order; None for those that have none for callers */
    PyObject *defaults; /* as many; `required` where there is none */
    PyObject *required;
    Py_ssize_t positional;
    PyObject *types;    /* as many: the type whose values are canonical as they are, or None */
    PyObject *dict;
    PyObject *weakrefs;
};

static PyTypeObject Node_Type, Table_Type, Registry_Type, History_Type, Call_Type, ServiceMethodHit_Type;

static Node gone; /* mark of a table slot that was used */
#define GONE (&gone)

static PyObject *current_computation; /* the context variable */
static PyObject *str_begin, *str_use, *str_graph, *str_invalidate;

#define IS_LIVE(node) ((node)->state <= CONSISTENT)

/* ---- clocks ------------------------------------------------------------------------------------------------------ */
#ifdef CLOCK_MONOTONIC_COARSE
#define FENCE_CLOCK CLOCK_MONOTONIC_COARSE
#define EVENT_CLOCK CLOCK_REALTIME_COARSE
#else
#define FENCE_CLOCK CLOCK_MONOTONIC
#define EVENT_CLOCK CLOCK_REALTIME
#endif

static int64_t
clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- history ----------------------------------------------------------------------------------------------------- */

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

/* ---- eviction queues --------------------------------------------------------------------------------------------- */
static void
queue_push(Registry *registry, Node *node, int which)
{
    Queue *queue = &registry->queues[which];
    node->older = queue->newest;
    node->newer = NULL;
    if (queue->newest == NULL)
        queue->oldest = node;
    else
        queue->newest->newer = node;
    queue->newest = node;
    node->queue = (uint8_t)which;
    queue->size++;
}

static void
queue_remove(Registry *registry, Node *node)
{
    Queue *queue = &registry->queues[node->queue];
    if (queue->hand == node)
        queue->hand = node->newer;
    if (node->older == NULL)
        queue->oldest = node->newer;
    else
        node->older->newer = node->newer;
    if (node->newer == NULL)
        queue->newest = node->older;
    else
        node->newer->older = node->older;
    node->older = node->newer = NULL;
    node->queue = NO_QUEUE;
    queue->size--;
}

/* Move the hand to the next node that was not hit since it last passed (SIEVE); NULL when the queue is empty. */
static Node *
queue_next_unvisited(Queue *queue)
{
    for (;;) {
        Node *node = queue->hand != NULL ? queue->hand : queue->oldest;
        if (node == NULL)
            return NULL;
        if (!node->was_hit) {
            queue->hand = node;
            return node;
        }
        node->was_hit = 0;
        queue->hand = node->newer;
    }
}

static int
is_protected(Node *node)
{
    return node->dependents != NULL || node->is_retained ||
           (node->extra != NULL && (node->extra->observers != NULL || node->extra->computation != NULL));
}

static void
loosened(Node *node)
{
    if (node->queue != NO_QUEUE && node->queue != EVICTABLE && !is_protected(node)) {
        Registry *registry = node->table->registry;
        queue_remove(registry, node);
        queue_push(registry, node, EVICTABLE);
    }
}

/* ---- edges ------------------------------------------------------------------------------------------------------- */
static Edges *
edges_with_capacity(Edges *edges, uint32_t capacity)
{
    Edges *larger = PyMem_Malloc(sizeof(Edges) + capacity * (sizeof(Node *) + sizeof(uint32_t)));
    if (larger == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    larger->size = edges == NULL ? 0 : edges->size;
    larger->capacity = capacity;
    if (edges != NULL) {
        memcpy(PEERS(larger), PEERS(edges), edges->size * sizeof(Node *));
        memcpy(PLACES(larger), PLACES(edges), edges->size * sizeof(uint32_t));
        PyMem_Free(edges);
    }
    return larger;
}

static int
edges_reserve(Edges **edges)
{
    if (*edges != NULL && (*edges)->size < (*edges)->capacity)
        return 0;
    uint64_t capacity = *edges == NULL ? 2 : 2 * (uint64_t)(*edges)->capacity;
    if (capacity > UINT32_MAX / 2) {
        PyErr_NoMemory();
        return -1;
    }
    Edges *larger = edges_with_capacity(*edges, (uint32_t)capacity);
    if (larger == NULL)
        return -1;
    *edges = larger;
    return 0;
}

/* Take the edge at `place` out of `node`'s dependents; the last one takes its place, and is told. */
static void
dependents_remove(Node *node, uint32_t place)
{
    Edges *edges = node->dependents;
    uint32_t last = --edges->size;
    if (place != last) {
        Node *moved = PEERS(edges)[last];
        uint32_t its_place = PLACES(edges)[last];
        PEERS(edges)[place] = moved;
        PLACES(edges)[place] = its_place;
        PLACES(moved->dependencies)[its_place] = place;
    }
    if (last == 0) {
        node->dependents = NULL;
        PyMem_Free(edges);
        loosened(node);
    }
}

/* The same among `node`'s dependencies. */
static void
dependencies_remove(Node *node, uint32_t place)
{
    Edges *edges = node->dependencies;
    uint32_t last = --edges->size;
    if (place != last) {
        Node *moved = PEERS(edges)[last];
        uint32_t its_place = PLACES(edges)[last];
        PEERS(edges)[place] = moved;
        PLACES(edges)[place] = its_place;
        PLACES(moved->dependents)[its_place] = place;
    }
    if (last == 0) {
        node->dependencies = NULL;
        PyMem_Free(edges);
    }
}

/* Remove all edges of a node that goes without having been marked. */
static void
edges_drop(Node *node)
{
    while (node->dependencies != NULL) {
        uint32_t last = node->dependencies->size - 1;
        Node *dependency = PEERS(node->dependencies)[last];
        uint32_t place = PLACES(node->dependencies)[last];
        dependencies_remove(node, last);
        dependents_remove(dependency, place);
    }
    while (node->dependents != NULL) {
        uint32_t last = node->dependents->size - 1;
        Node *dependent = PEERS(node->dependents)[last];
        uint32_t place = PLACES(node->dependents)[last];
        dependencies_remove(dependent, place);
        if (--node->dependents->size == 0) {
            PyMem_Free(node->dependents);
            node->dependents = NULL;
        }
    }
}

static size_t
pointer_hash(Node *node)
{
    uint64_t bits = (uint64_t)(uintptr_t)node >> 4;
    return (size_t)((bits * UINT64_C(0x9E3779B97F4A7C15)) >> 20);
}

static void
used_free(Extra *extra)
{
    PyMem_Free(extra->used);
    extra->used = NULL;
    extra->used_mask = extra->used_size = 0;
}

static void
used_insert(Extra *extra, Node *node)
{
    size_t i = pointer_hash(node) & extra->used_mask;
    while (extra->used[i] != NULL)
        i = (i + 1) & extra->used_mask;
    extra->used[i] = node;
    extra->used_size++;
}

/* Make the hash set of the dependencies of `node` anew, with room for as many again. */
static int
used_build(Node *node)
{
    Extra *extra = node->extra;
    size_t size = node->dependencies->size, capacity = 64;
    while (capacity < 4 * size)
        capacity *= 2;
    Node **used = PyMem_Calloc(capacity, sizeof(Node *));
    if (used == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyMem_Free(extra->used);
    extra->used = used;
    extra->used_mask = capacity - 1;
    extra->used_size = 0;
    for (uint32_t i = 0; i < size; i++)
        used_insert(extra, PEERS(node->dependencies)[i]);
    return 0;
}

static Extra *
extra_of(Node *node)
{
    if (node->extra == NULL) {
        node->extra = PyMem_Calloc(1, sizeof(Extra));
        if (node->extra == NULL)
            PyErr_NoMemory();
    }
    return node->extra;
}

/* Free the extra of a node if there is nothing in it. */
static void
extra_trim(Node *node)
{
    Extra *extra = node->extra;
    if (extra != NULL && extra->observers == NULL && extra->computation == NULL && extra->expiry == NULL &&
        extra->used == NULL) {
        node->extra = NULL;
        PyMem_Free(extra);
    }
}

/* Tell whether there is an edge from `node` to `dependent`, and where: its place among the dependencies. */
static int
find_edge(Node *dependent, Node *node, uint32_t *place)
{
    Edges *dependencies = dependent->dependencies, *dependents = node->dependents;
    if (dependencies == NULL || dependents == NULL)
        return 0;
    if (PEERS(dependencies)[dependencies->size - 1] == node) {
        *place = dependencies->size - 1;
        return 1;
    }
    if (dependencies->size <= dependents->size) {
        for (uint32_t i = 0; i < dependencies->size; i++)
            if (PEERS(dependencies)[i] == node) {
                *place = i;
                return 1;
            }
    }
    else {
        for (uint32_t i = 0; i < dependents->size; i++)
            if (PEERS(dependents)[i] == dependent) {
                *place = PLACES(dependents)[i];
                return 1;
            }
    }
    return 0;
}

/* Tell whether there is an edge; in constant time, however many there are. -1: no memory. */
static int
has_edge(Node *dependent, Node *node)
{
    uint32_t place;
    Edges *dependencies = dependent->dependencies, *dependents = node->dependents;
    if (dependencies == NULL || dependents == NULL)
        return 0;
    if (dependencies->size <= SCANNED || dependents->size <= SCANNED)
        return find_edge(dependent, node, &place);
    Extra *extra = extra_of(dependent);
    if (extra == NULL)
        return -1;
    if (extra->used_size != dependencies->size && used_build(dependent) < 0)
        return -1;
    for (size_t i = pointer_hash(node) & extra->used_mask; extra->used[i] != NULL; i = (i + 1) & extra->used_mask)
        if (extra->used[i] == node)
            return 1;
    return 0;
}

/* Add the edge by which an invalidation of `node` reaches `dependent`; 1 if it is new, 0 if not, -1: no memory. */
static int
edge_add(Node *dependent, Node *node)
{
    int there = has_edge(dependent, node);
    if (there != 0)
        return there < 0 ? -1 : 0;
    if (edges_reserve(&dependent->dependencies) < 0 || edges_reserve(&node->dependents) < 0) {
        for (Node *end = dependent; end != NULL; end = end == dependent ? node : NULL) {
            Edges **edges = end == dependent ? &end->dependencies : &end->dependents;
            if (*edges != NULL && (*edges)->size == 0) { /* an empty block must not stay */
                PyMem_Free(*edges);
                *edges = NULL;
            }
        }
        return -1;
    }
    Edges *dependencies = dependent->dependencies, *dependents = node->dependents;
    uint32_t here = dependencies->size++, there_at = dependents->size++;
    PEERS(dependencies)[here] = node;
    PLACES(dependencies)[here] = there_at;
    PEERS(dependents)[there_at] = dependent;
    PLACES(dependents)[there_at] = here;
    Extra *extra = dependent->extra;
    if (extra != NULL && extra->used != NULL) {
        if (extra->used_size + 1 == dependencies->size && 2 * dependencies->size < extra->used_mask)
            used_insert(extra, node);
        else
            extra->used_size = 0; /* it is made anew when it is needed */
    }
    return 1;
}

static void
edge_remove(Node *dependent, Node *node)
{
    uint32_t place;
    if (!find_edge(dependent, node, &place))
        return;
    uint32_t other = PLACES(dependent->dependencies)[place];
    dependencies_remove(dependent, place);
    if (dependent->extra != NULL)
        used_free(dependent->extra);
    dependents_remove(node, other);
}

/* Record that `dependent`, the current computation, has been given the output of `node`. */
static int
capture_edge(Node *dependent, Node *node)
{
    if (dependent->state != COMPUTING || dependent == node)
        return 0;
    if (node->state == CONSISTENT)
        return node->is_entered && dependent->is_entered ? edge_add(dependent, node) : 0;
    if (node->state == COMPUTING)
        return 0;
    PyObject *graph = PyObject_GetAttr(dependent->table->function, str_graph);
    if (graph == NULL)
        return -1;
    PyObject *result = PyObject_CallMethodOneArg(graph, str_invalidate, (PyObject *)dependent);
    Py_DECREF(graph);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Make `node` a dependency of the current computation, if there is one.
 *
 * Python remembers the value of a context variable for as long as the context stays entered, but not that there is none.
 * That is remembered here: a computation sets the variable as the first thing in a context that it has just entered, so
 * one that has been found unset stays so, or is set to None, until another context is entered or this one is left.
 */
static inline int
capture_current(Node *node)
{
#if PY_VERSION_HEX < 0x030E0000
    static PyThreadState *unset_thread;
    static uint64_t unset_version;
    PyThreadState *thread = PyThreadState_Get();
    if (thread == unset_thread && thread->context_ver == unset_version)
        return 0;
#endif
    PyObject *current;
    if (PyContextVar_Get(current_computation, (PyObject *)&gone, &current) < 0)
        return -1;
    int result = 0;
    if (current == (PyObject *)&gone) {
#if PY_VERSION_HEX < 0x030E0000
        unset_thread = thread;
        unset_version = thread->context_ver;
#endif
        return 0; /* `gone` lives for ever: its reference need not be given back */
    }
    if (current != Py_None && PyObject_TypeCheck(current, &Node_Type))
        result = capture_edge((Node *)current, node);
    Py_DECREF(current);
    return result < 0 ? -1 : 0;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */
static Py_hash_t key_hash(Table *table, PyObject *key);

static Node *
node_make(PyTypeObject *type, Table *table, PyObject *key, Py_hash_t hash)
{
    Node *node = PyObject_GC_New(Node, type);
    if (node == NULL)
        return NULL;
    memset((char *)node + sizeof(PyObject), 0, sizeof(Node) - sizeof(PyObject));
    node->table = (Table *)Py_NewRef((PyObject *)table);
    node->key = Py_NewRef(key);
    node->hash = hash;
    node->queue = NO_QUEUE;
    return node; /* not tracked: see "Garbage collection" above */
}

static PyObject *
Node_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", "table_key", NULL};
    PyObject *table, *key;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O", names, &Table_Type, &table, &key))
        return NULL;
    Py_hash_t hash = key_hash((Table *)table, key);
    if (hash == -1 && PyErr_Occurred())
        return NULL;
    return (PyObject *)node_make(type, (Table *)table, key, hash);
}

static int
Node_traverse(Node *self, visitproc visit, void *arg)
{
    /* Not the type: subtypes are made in Python, and `subtype_traverse` visits it. */
    Py_VISIT((PyObject *)self->table);
    Py_VISIT(self->key);
    Py_VISIT(self->output);
    if (self->extra != NULL) {
        Py_VISIT(self->extra->observers);
        Py_VISIT(self->extra->computation);
        Py_VISIT(self->extra->expiry);
    }
    return 0;
}

static int
Node_clear(Node *self)
{
    Py_CLEAR(self->output);
    if (self->extra != NULL) {
        Py_CLEAR(self->extra->observers);
        if (self->extra != NULL)
            Py_CLEAR(self->extra->computation);
        if (self->extra != NULL)
            Py_CLEAR(self->extra->expiry);
    }
    return 0;
}

static void
Node_dealloc(Node *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, Node_dealloc)
    if (self->dependencies != NULL || self->dependents != NULL)
        edges_drop(self);
    Node_clear(self);
    if (self->extra != NULL) {
        used_free(self->extra);
        PyMem_Free(self->extra);
        self->extra = NULL;
    }
    Py_CLEAR(self->key);
    Py_CLEAR(self->table);
    int is_adopted = type->tp_dealloc == (destructor)Node_dealloc && (type->tp_flags & Py_TPFLAGS_HEAPTYPE);
    PyObject_GC_Del(self);
    if (is_adopted)
        Py_DECREF(type); /* else `subtype_dealloc`, which has called this, does it */
    Py_TRASHCAN_END
}

/* What an `await` statement calls: the node itself, which then gives its value without any iterator being made. */
static PyObject *
Node_am_await(Node *self)
{
    if (self->output == NULL && self->state == COMPUTING &&
        (self->extra == NULL || self->extra->computation == NULL)) {
        PyObject *waiter = PyObject_CallMethodNoArgs((PyObject *)self, str_begin);
        if (waiter == NULL)
            return NULL;
        if (waiter != Py_None) {
            PyObject *iterator = PyObject_CallMethodOneArg((PyObject *)self, str_use, waiter);
            Py_DECREF(waiter);
            return iterator;
        }
        Py_DECREF(waiter);
    }
    if (self->output != NULL && !self->is_failed)
        return Py_NewRef((PyObject *)self);
    return PyObject_CallMethodNoArgs((PyObject *)self, str_use);
}

static PySendResult
Node_am_send(Node *self, PyObject *Py_UNUSED(argument), PyObject **result)
{
    PyObject *value = self->output;
    if (value == NULL || self->is_failed) {
        PyErr_SetString(PyExc_RuntimeError, "a computed without a value is awaited, not iterated");
        *result = NULL;
        return PYGEN_ERROR;
    }
    Py_INCREF(value);
    if (capture_current(self) < 0) {
        Py_DECREF(value);
        *result = NULL;
        return PYGEN_ERROR;
    }
    *result = value;
    return PYGEN_RETURN;
}

static PyObject *
Node_iternext(Node *self)
{
    PyObject *value;
    if (Node_am_send(self, Py_None, &value) == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        Py_DECREF(value);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    }
    return NULL;
}

static PyObject *
none_or(PyObject *object)
{
    return Py_NewRef(object == NULL ? Py_None : object);
}

static PyObject *
Node_get_table(Node *self, void *Py_UNUSED(closure))
{
    return none_or((PyObject *)self->table);
}

static PyObject *
Node_get_function(Node *self, void *Py_UNUSED(closure))
{
    return none_or(self->table == NULL ? NULL : self->table->function);
}

static PyObject *
Node_get_table_key(Node *self, void *Py_UNUSED(closure))
{
    return none_or(self->key);
}

static PyObject *
Node_get_arguments(Node *self, void *Py_UNUSED(closure))
{
    return self->table->is_keyed_by_argument ? PyTuple_Pack(1, self->key) : Py_NewRef(self->key);
}

static PyObject *
Node_get_version(Node *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->version);
}

static int
refuse_deletion(PyObject *value)
{
    if (value != NULL)
        return 0;
    PyErr_SetString(PyExc_AttributeError, "this attribute cannot be deleted");
    return -1;
}

static int
Node_set_version(Node *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0)
        return -1;
    unsigned long long version = PyLong_AsUnsignedLongLong(value);
    if (version == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    self->version = version;
    return 0;
}

static PyObject *
Node_get_state(Node *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(self->state);
}

static int
Node_set_state(Node *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0)
        return -1;
    long state = PyLong_AsLong(value);
    if (state == -1 && PyErr_Occurred())
        return -1;
    if (state < COMPUTING || state > INVALIDATED) {
        PyErr_SetString(PyExc_ValueError, "there is no such state");
        return -1;
    }
    self->state = (uint8_t)state;
    return 0;
}

static PyObject *
Node_get_value(Node *self, void *Py_UNUSED(closure))
{
    if (self->output == NULL || self->is_failed) {
        PyErr_SetString(PyExc_AttributeError, "_value");
        return NULL;
    }
    return Py_NewRef(self->output);
}

static int
Node_set_value(Node *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0)
        return -1;
    PyObject *old = self->output;
    self->output = Py_NewRef(value);
    self->is_failed = 0;
    Py_XDECREF(old);
    return 0;
}

static PyObject *
Node_get_failure(Node *self, void *Py_UNUSED(closure))
{
    return none_or(self->is_failed ? self->output : NULL);
}

static int
Node_set_failure(Node *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (refuse_deletion(value) < 0)
        return -1;
    if (value == Py_None) {
        if (!self->is_failed)
            return 0;
        self->is_failed = 0;
        Py_CLEAR(self->output);
        return 0;
    }
    PyObject *old = self->output;
    self->output = Py_NewRef(value);
    self->is_failed = 1;
    Py_XDECREF(old);
    return 0;
}

static PyObject *
Node_get_extra(Node *self, void *closure)
{
    if (self->extra == NULL)
        Py_RETURN_NONE;
    return none_or(*(PyObject **)((char *)self->extra + (size_t)closure));
}

static int
Node_set_extra(Node *self, PyObject *value, void *closure)
{
    if (refuse_deletion(value) < 0)
        return -1;
    if (value == Py_None) {
        if (self->extra == NULL)
            return 0;
        PyObject **place = (PyObject **)((char *)self->extra + (size_t)closure);
        PyObject *old = *place;
        *place = NULL;
        extra_trim(self);
        Py_XDECREF(old);
        return 0;
    }
    if (extra_of(self) == NULL)
        return -1;
    PyObject **place = (PyObject **)((char *)self->extra + (size_t)closure);
    PyObject *old = *place;
    *place = Py_NewRef(value);
    Py_XDECREF(old);
    return 0;
}

static PyObject *
Node_get_is_retained(Node *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->is_retained);
}

static PyObject *
Node_get_is_paged_out(Node *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->is_paged_out);
}

static PyObject *
Node_get_was_hit(Node *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->was_hit);
}

static PyObject *
Node_get_weight(Node *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(self->weight);
}

static PyGetSetDef Node_getset[] = {
    {"table", (getter)Node_get_table, NULL, "Where the computeds of its function are looked up.", NULL},
    {"function", (getter)Node_get_function, NULL, "The compute function that it is a result of.", NULL},
    {"table_key", (getter)Node_get_table_key, NULL, "What it is looked up by.", NULL},
    {"arguments", (getter)Node_get_arguments, NULL, "The canonical arguments.", NULL},
    {"version", (getter)Node_get_version, (setter)Node_set_version, "A number that no other computed has; 0 at first.",
     NULL},
    {"_state", (getter)Node_get_state, (setter)Node_set_state, NULL, NULL},
    {"_value", (getter)Node_get_value, (setter)Node_set_value, NULL, NULL},
    {"_failure", (getter)Node_get_failure, (setter)Node_set_failure, NULL, NULL},
    {"_observers", (getter)Node_get_extra, (setter)Node_set_extra, NULL, (void *)offsetof(Extra, observers)},
    {"_computation", (getter)Node_get_extra, (setter)Node_set_extra, NULL, (void *)offsetof(Extra, computation)},
    {"_expiry", (getter)Node_get_extra, (setter)Node_set_extra, NULL, (void *)offsetof(Extra, expiry)},
    {"_is_retained", (getter)Node_get_is_retained, NULL, NULL, NULL},
    {"_is_paged_out", (getter)Node_get_is_paged_out, NULL, NULL, NULL},
    {"_was_hit", (getter)Node_get_was_hit, NULL, NULL, NULL},
    {"_weight", (getter)Node_get_weight, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef Node_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Node[T]"},
    {NULL},
};

static PyAsyncMethods Node_async = {.am_send = (sendfunc)Node_am_send};

static PyTypeObject Node_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph._speed.Node",
    .tp_doc = "State of one computed (see pure.node).",
    .tp_basicsize = sizeof(Node),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = Node_new,
    .tp_dealloc = (destructor)Node_dealloc,
    .tp_traverse = (traverseproc)Node_traverse,
    .tp_clear = (inquiry)Node_clear,
    .tp_as_async = &Node_async,
    .tp_iternext = (iternextfunc)Node_iternext,
    .tp_getset = Node_getset,
    .tp_methods = Node_methods,
};

/* ---- registry ---------------------------------------------------------------------------------------------------- */
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
    Py_VISIT((PyObject *)self->history);
    return 0;
}

static int
Registry_clear(Registry *self)
{
    Py_CLEAR(self->on_full);
    Py_CLEAR(self->on_fence);
    if (self->history != NULL)
        History_clear_slot(self->history); /* the history itself stays: it is used until the end */
    return 0;
}

static void
Registry_dealloc(Registry *self)
{
    PyObject_GC_UnTrack(self);
    Registry_clear(self);
    Py_XDECREF((PyObject *)self->history);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Let `on_fence` settle what has expired, if the fence time has passed. */
static int
fence_check(Registry *registry)
{
    if (registry->fence_ns == INT64_MAX || clock_ns(FENCE_CLOCK) < registry->fence_ns ||
        registry->on_fence == NULL || registry->on_fence == Py_None)
        return 0;
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
    history_note(self->history, PAGED_OUT, node, -1, Py_None);
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
    if (check_entered(self, args[0]) < 0 || Node_set_value((Node *)args[0], args[1], NULL) < 0)
        return NULL;
    ((Node *)args[0])->is_paged_out = 0;
    requeue(self, (Node *)args[0], EVICTABLE);
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

/* Note that a node has its output: its dependencies are what they are. */
static void
complete(Registry *self, Node *node, int is_failure)
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
    history_note(self->history, is_failure ? FAILED : COMPUTED, node, -1, Py_None);
}

static PyObject *
Registry_completed(Registry *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyObject_TypeCheck(args[0], &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "completed takes a node and whether it failed");
        return NULL;
    }
    complete(self, (Node *)args[0], args[1] == Py_True);
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
    complete(self, node, 0);
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
    if (!(fence_s < 9e9)) {
        self->fence_ns = INT64_MAX;
        return 0;
    }
    struct timespec resolution = {0, 0};
    clock_getres(FENCE_CLOCK, &resolution); /* by so much the coarse clock may be late */
    self->fence_ns = (int64_t)(fence_s * 1e9) - resolution.tv_nsec;
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
    {"history", T_OBJECT, offsetof(Registry, history), READONLY, "What happened last."},
    {NULL},
};

static PyGetSetDef Registry_getset[] = {
    {"fence_s", (getter)Registry_get_fence_s, (setter)Registry_set_fence_s,
     "Until when hits may be answered without asking, on the clock of time.monotonic(); infinite: always.", NULL},
    {NULL},
};

static PyTypeObject Registry_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph._speed.Registry",
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

/* ---- tables ------------------------------------------------------------------------------------------------------ */

/* What is looked for: one object, or the items of a tuple. `whole` is the tuple, if there is one already. */
typedef struct {
    PyObject *const *items;
    Py_ssize_t count;
    PyObject *whole;
} Wanted;

/* What PyObject_Hash gives, sooner for the two kinds of keys that most are. */
static inline Py_hash_t
quick_hash(PyObject *object)
{
    if (PyUnicode_CheckExact(object)) {
        Py_hash_t hash = ((PyASCIIObject *)object)->hash;
        if (hash != -1)
            return hash;
    }
#if PY_VERSION_HEX < 0x030C0000
    else if (PyLong_CheckExact(object) && (size_t)(Py_SIZE(object) + 1) <= 2) {
        Py_hash_t hash = Py_SIZE(object) * (Py_hash_t)((PyLongObject *)object)->ob_digit[0];
        return hash == -1 ? -2 : hash;
    }
#else
    else if (PyLong_CheckExact(object) && PyUnstable_Long_IsCompact((PyLongObject *)object)) {
        Py_hash_t hash = PyUnstable_Long_CompactValue((PyLongObject *)object);
        return hash == -1 ? -2 : hash;
    }
#endif
    return PyObject_Hash(object);
}

static Py_hash_t
items_hash(PyObject *const *items, Py_ssize_t count)
{
    uint64_t sum = UINT64_C(2870177450012600261);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_hash_t hash = quick_hash(items[i]);
        if (hash == -1)
            return -1;
        sum += (uint64_t)hash * UINT64_C(14029467366897019727);
        sum = (sum << 31) | (sum >> 33);
        sum *= UINT64_C(11400714785074694791);
    }
    sum += (uint64_t)count;
    return sum == (uint64_t)-1 ? 1546275796 : (Py_hash_t)sum;
}

/* The hash of a key: like that of a tuple where keys are tuples, so that it can be had without making one. */
static Py_hash_t
key_hash(Table *table, PyObject *key)
{
    if (table->is_keyed_by_argument)
        return PyObject_Hash(key);
    if (!PyTuple_Check(key)) {
        PyErr_Format(PyExc_TypeError, "the keys of this table are tuples, not %.100s", Py_TYPE(key)->tp_name);
        return -1;
    }
    return items_hash(((PyTupleObject *)key)->ob_item, PyTuple_GET_SIZE(key));
}

static inline int
same_object(PyObject *a, PyObject *b)
{
    if (a == b)
        return 1;
    if (PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b)) {
        Py_ssize_t length = PyUnicode_GET_LENGTH(a);
        int kind = (int)PyUnicode_KIND(a);
        return length == PyUnicode_GET_LENGTH(b) && kind == (int)PyUnicode_KIND(b) &&
               memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)length * (size_t)kind) == 0;
    }
    if (PyLong_CheckExact(a) && PyLong_CheckExact(b)) {
        PyObject *result = PyLong_Type.tp_richcompare(a, b, Py_EQ);
        Py_XDECREF(result);
        return result == Py_True;
    }
    return PyObject_RichCompareBool(a, b, Py_EQ);
}

/* 1, 0, or -1 with an error. May run code of users, in which the table may change. */
static int
same_key(Table *table, Node *node, Wanted *wanted)
{
    if (table->is_keyed_by_argument)
        return same_object(node->key, wanted->items[0]);
    PyObject *key = node->key;
    if (PyTuple_CheckExact(key) && (wanted->whole == NULL || PyTuple_CheckExact(wanted->whole))) {
        if (PyTuple_GET_SIZE(key) != wanted->count)
            return 0;
        for (Py_ssize_t i = 0; i < wanted->count; i++) {
            int same = same_object(PyTuple_GET_ITEM(key, i), wanted->items[i]);
            if (same != 1)
                return same;
        }
        return 1;
    }
    if (wanted->whole != NULL)
        return PyObject_RichCompareBool(key, wanted->whole, Py_EQ);
    PyObject *whole = PyTuple_New(wanted->count);
    if (whole == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < wanted->count; i++)
        PyTuple_SET_ITEM(whole, i, Py_NewRef(wanted->items[i]));
    int same = PyObject_RichCompareBool(key, whole, Py_EQ);
    Py_DECREF(whole);
    return same;
}

/* Find a node: 1 with a borrowed node, 0, or -1 with an error. */
static inline int
table_find(Table *table, Wanted *wanted, Py_hash_t hash, Node **found)
{
again:
    if (table->slots == NULL)
        return 0;
    size_t mask = table->mask, perturb = (size_t)hash, i = (size_t)hash & mask;
    for (;;) {
        Node *node = table->slots[i];
        if (node == NULL)
            return 0;
        if (node != GONE && node->hash == hash) {
            if (table->is_keyed_by_argument && node->key == wanted->items[0]) {
                *found = node;
                return 1;
            }
            uint64_t version = table->version;
            Py_INCREF(node);
            int same = same_key(table, node, wanted);
            Py_DECREF(node);
            if (same < 0)
                return -1;
            if (table->version != version)
                goto again;
            if (same) {
                *found = node;
                return 1;
            }
        }
        perturb >>= 5;
        i = (i * 5 + perturb + 1) & mask;
    }
}

/* Find the node of a key object. */
static int
table_find_key(Table *table, PyObject *key, Py_hash_t hash, Node **found)
{
    Wanted wanted = {&key, 1, NULL};
    if (!table->is_keyed_by_argument) {
        wanted.items = ((PyTupleObject *)key)->ob_item;
        wanted.count = PyTuple_GET_SIZE(key);
        wanted.whole = key;
    }
    return table_find(table, &wanted, hash, found);
}

static void
slots_put(Node **slots, size_t mask, Node *node)
{
    size_t perturb = (size_t)node->hash, i = (size_t)node->hash & mask;
    while (slots[i] != NULL && slots[i] != GONE) {
        perturb >>= 5;
        i = (i * 5 + perturb + 1) & mask;
    }
    slots[i] = node;
}

/* Make sure that there is a free slot, of which lookups need one too. */
static int
table_reserve(Table *table)
{
    if (table->slots != NULL && (size_t)(table->filled + 1) * 3 <= (table->mask + 1) * 2)
        return 0;
    size_t capacity = 8;
    while (capacity < 2 * (size_t)(table->used + 1))
        capacity *= 2;
    Node **slots = PyMem_Calloc(capacity, sizeof(Node *));
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (table->slots != NULL)
        for (size_t i = 0; i <= table->mask; i++)
            if (table->slots[i] != NULL && table->slots[i] != GONE)
                slots_put(slots, capacity - 1, table->slots[i]);
    PyMem_Free(table->slots);
    table->slots = slots;
    table->mask = capacity - 1;
    table->filled = table->used;
    table->version++;
    return 0;
}

/* Take a node out of its table and queue. The table's reference is now the caller's. Runs no code of users. */
static void
table_remove(Node *node)
{
    Table *table = node->table;
    Registry *registry = table->registry;
    size_t mask = table->mask, perturb = (size_t)node->hash, i = (size_t)node->hash & mask;
    while (table->slots[i] != node) {
        perturb >>= 5;
        i = (i * 5 + perturb + 1) & mask;
    }
    table->slots[i] = GONE;
    table->version++;
    if (--table->used == 0) {
        PyMem_Free(table->slots);
        table->slots = NULL;
        table->mask = 0;
        table->filled = 0;
    }
    queue_remove(registry, node);
    registry->size--;
    registry->bytes -= node->weight;
    node->weight = 0;
    node->is_entered = 0;
}

/* Enter a new node; return it (a new reference), or the one that has come first while room was made. */
static Node *
table_enter(Table *table, Node *node)
{
    Registry *registry = table->registry;
    for (int attempts = 0;; attempts++) {
        if (registry->size >= registry->max_nodes && attempts < 3 && registry->on_full != NULL &&
            registry->on_full != Py_None) {
            PyObject *hook = Py_NewRef(registry->on_full);
            PyObject *result = PyObject_CallNoArgs(hook);
            Py_DECREF(hook);
            if (result == NULL)
                return NULL;
            Py_DECREF(result);
        }
        Node *present = NULL;
        int found = table_find_key(table, node->key, node->hash, &present);
        if (found < 0)
            return NULL;
        if (found)
            return (Node *)Py_NewRef((PyObject *)present);
        if (registry->size < registry->max_nodes || attempts >= 3)
            break; /* else a comparison of keys has let others in */
    }
    if (table_reserve(table) < 0)
        return NULL;
    size_t mask = table->mask, perturb = (size_t)node->hash, i = (size_t)node->hash & mask;
    while (table->slots[i] != NULL && table->slots[i] != GONE) {
        perturb >>= 5;
        i = (i * 5 + perturb + 1) & mask;
    }
    if (table->slots[i] == NULL)
        table->filled++;
    table->slots[i] = (Node *)Py_NewRef((PyObject *)node);
    table->used++;
    table->version++;
    node->is_entered = 1;
    queue_push(registry, node, EVICTABLE);
    if (++registry->size <= TRACKED && !PyObject_GC_IsTracked((PyObject *)node))
        PyObject_GC_Track(node);
    return (Node *)Py_NewRef((PyObject *)node);
}

static PyObject *
Table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"registry", "function", "node_type", "is_keyed_by_argument", "is_delayed", NULL};
    PyObject *registry, *function, *node_type;
    int is_keyed_by_argument, is_delayed;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO!$pp", names, &Registry_Type, &registry, &function,
                                     &PyType_Type, &node_type, &is_keyed_by_argument, &is_delayed))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)node_type, &Node_Type) ||
        ((PyTypeObject *)node_type)->tp_basicsize != Node_Type.tp_basicsize) {
        PyErr_SetString(PyExc_TypeError, "node_type must be a subclass of Node without attributes of its own");
        return NULL;
    }
    Table *self = (Table *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->registry = (Registry *)Py_NewRef(registry);
    self->function = Py_NewRef(function);
    self->node_type = (PyTypeObject *)Py_NewRef(node_type);
    self->is_keyed_by_argument = (char)is_keyed_by_argument;
    self->is_delayed = (char)is_delayed;
    return (PyObject *)self;
}

static int
Table_traverse(Table *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)self->registry);
    Py_VISIT(self->function);
    Py_VISIT((PyObject *)self->node_type);
    if (self->slots != NULL && self->used <= TRACKED)
        for (size_t i = 0; i <= self->mask; i++)
            if (self->slots[i] != NULL && self->slots[i] != GONE)
                Py_VISIT((PyObject *)self->slots[i]);
    return 0;
}

/* Let go of all nodes: the collector has found that nobody can reach the table. */
static int
Table_release(Table *self)
{
    while (self->used > 0) {
        size_t i = 0;
        while (self->slots[i] == NULL || self->slots[i] == GONE)
            i++;
        for (; self->slots != NULL && i <= self->mask; i++) {
            Node *node = self->slots[i];
            if (node == NULL || node == GONE)
                continue;
            edges_drop(node);
            table_remove(node);
            node->state = INVALIDATED;
            Py_DECREF(node);
        }
    }
    return 0;
}

static int
Table_clear(Table *self)
{
    Table_release(self);
    Py_CLEAR(self->function);
    return 0;
}

static void
Table_dealloc(Table *self)
{
    PyObject_GC_UnTrack(self);
    Table_release(self);
    PyMem_Free(self->slots);
    Py_XDECREF(self->function);
    Py_XDECREF((PyObject *)self->registry);
    Py_XDECREF((PyObject *)self->node_type);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Py_ssize_t
Table_length(Table *self)
{
    return self->used;
}

static PyObject *
Table_nodes(Table *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(0);
    if (list == NULL)
        return NULL;
    for (size_t i = 0; self->slots != NULL && i <= self->mask; i++) {
        Node *node = self->slots[i];
        if (node != NULL && node != GONE && PyList_Append(list, (PyObject *)node) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *
Table_get(Table *self, PyObject *key)
{
    Node *node = NULL;
    Py_hash_t hash = key_hash(self, key);
    if ((hash == -1 && PyErr_Occurred()) || table_find_key(self, key, hash, &node) < 0)
        return NULL;
    return none_or((PyObject *)node);
}

static inline void
count_hit(Table *table, Node *node)
{
    table->hits++;
    node->was_hit = 1;
}

static PyObject *
Table_hit(Table *self, PyObject *key)
{
    Node *node = NULL;
    Py_hash_t hash = key_hash(self, key);
    if ((hash == -1 && PyErr_Occurred()) || table_find_key(self, key, hash, &node) < 0)
        return NULL;
    if (node != NULL)
        count_hit(self, node);
    return none_or((PyObject *)node);
}

static PyObject *
Table_lookup(Table *self, PyObject *key)
{
    Node *node = NULL;
    Py_hash_t hash = key_hash(self, key);
    if ((hash == -1 && PyErr_Occurred()) || table_find_key(self, key, hash, &node) < 0)
        return NULL;
    if (node != NULL) {
        count_hit(self, node);
        return Py_NewRef((PyObject *)node);
    }
    node = node_make(self->node_type, self, key, hash);
    if (node == NULL)
        return NULL;
    Node *entered = table_enter(self, node);
    Py_DECREF(node);
    return (PyObject *)entered;
}

static PyObject *
Table_enter(Table *self, PyObject *object)
{
    if (!PyObject_TypeCheck(object, &Node_Type) || ((Node *)object)->table != self || ((Node *)object)->is_entered) {
        PyErr_SetString(PyExc_TypeError, "a new node of this table is expected");
        return NULL;
    }
    return (PyObject *)table_enter(self, (Node *)object);
}

static PyMethodDef Table_methods[] = {
    {"nodes", (PyCFunction)Table_nodes, METH_NOARGS, "Return the nodes."},
    {"get", (PyCFunction)Table_get, METH_O, "Return the live node of a key, or None. No hit is counted."},
    {"hit", (PyCFunction)Table_hit, METH_O, "Return the live node of a key, or None; count the hit."},
    {"lookup", (PyCFunction)Table_lookup, METH_O,
     "Return the live node of a key, a new one if there is none; count a hit."},
    {"enter", (PyCFunction)Table_enter, METH_O,
     "Enter a new node; return it, or the one that has come first while room was made."},
    {NULL},
};

static PyMemberDef Table_members[] = {
    {"registry", T_OBJECT, offsetof(Table, registry), READONLY, "The registry that it is part of."},
    {"function", T_OBJECT, offsetof(Table, function), READONLY, "The compute function."},
    {"is_keyed_by_argument", T_BOOL, offsetof(Table, is_keyed_by_argument), READONLY,
     "Keys are the one argument itself, not a tuple with it."},
    {"is_delayed", T_BOOL, offsetof(Table, is_delayed), READONLY,
     "Invalidations that come from what its consistent nodes depend on wait."},
    {"hits", T_PYSSIZET, offsetof(Table, hits), 0, "How many calls have found their node."},
    {NULL},
};

static PySequenceMethods Table_sequence = {.sq_length = (lenfunc)Table_length};

static PyTypeObject Table_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph._speed.Table",
    .tp_doc = "The live nodes of one compute function, by their arguments (see pure.registry).",
    .tp_basicsize = sizeof(Table),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = Table_new,
    .tp_dealloc = (destructor)Table_dealloc,
    .tp_traverse = (traverseproc)Table_traverse,
    .tp_clear = (inquiry)Table_clear,
    .tp_as_sequence = &Table_sequence,
    .tp_methods = Table_methods,
    .tp_members = Table_members,
};

/* ---- the hit ----------------------------------------------------------------------------------------------------- */
static PyObject *
call_find(Call *call, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *positional = PyTuple_New(count), *named = PyDict_New(), *result = NULL;
    if (positional == NULL || named == NULL)
        goto done;
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(names, i), args[count + i]) < 0)
            goto done;
    PyObject *both[] = {NULL, positional, named};
    result = PyObject_Vectorcall(call->find, both + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
done:
    Py_XDECREF(positional);
    Py_XDECREF(named);
    return result;
}

/* Sort the arguments of a call into the order of the parameters, defaults filled in; 0 if that cannot be done here. */
static int
sort_arguments(Call *call, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject **sorted)
{
    Py_ssize_t parameters = PyTuple_GET_SIZE(call->names);
    if (parameters > MAX_PARAMETERS || count > call->positional)
        return 0;
    for (Py_ssize_t i = 0; i < parameters; i++)
        sorted[i] = i < count ? args[i] : NULL;
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        Py_ssize_t place = 0;
        while (place < parameters && PyTuple_GET_ITEM(call->names, place) != name)
            place++;
        if (place == parameters || sorted[place] != NULL)
            return 0;
        sorted[place] = args[count + i];
    }
    for (Py_ssize_t i = 0; i < parameters; i++)
        if (sorted[i] == NULL) {
            sorted[i] = PyTuple_GET_ITEM(call->defaults, i);
            if (sorted[i] == call->required)
                return 0;
        }
    return 1;
}

/* Tell whether the arguments are the canonical ones, as far as that is seen at once. */
static int
are_canonical(Call *call, Wanted *wanted)
{
    for (Py_ssize_t i = 0; i < wanted->count; i++) {
        PyObject *item = wanted->items[i];
        if ((PyObject *)Py_TYPE(item) != PyTuple_GET_ITEM(call->types, i))
            return 0;
        if (PyLong_CheckExact(item)) {
            int overflow;
            PyLong_AsLongLongAndOverflow(item, &overflow);
            if (overflow) /* it may be too large to be sent */
                return 0;
        }
    }
    return 1;
}

/* Make and enter the node for canonical arguments. */
static PyObject *
call_create(Table *table, Wanted *wanted, Py_hash_t hash)
{
    PyObject *key;
    if (table->is_keyed_by_argument)
        key = Py_NewRef(wanted->items[0]);
    else {
        key = PyTuple_New(wanted->count);
        if (key == NULL)
            return NULL;
        for (Py_ssize_t i = 0; i < wanted->count; i++)
            PyTuple_SET_ITEM(key, i, Py_NewRef(wanted->items[i]));
    }
    Node *node = node_make(table->node_type, table, key, hash);
    Py_DECREF(key);
    if (node == NULL)
        return NULL;
    Node *entered = table_enter(table, node);
    Py_DECREF(node);
    return (PyObject *)entered;
}

/* What most calls are: one argument, by position, and the node of this very object stands in the first place of the
 * table where it may be. NULL: not so, without an error. */
static inline PyObject *
quick_hit(Call *call, PyObject *argument)
{
    Table *table = call->table;
    if (!table->is_keyed_by_argument || table->slots == NULL || table->registry->fence_ns != INT64_MAX)
        return NULL;
    size_t hash;
    if (PyUnicode_CheckExact(argument))
        hash = (size_t)((PyASCIIObject *)argument)->hash;
    else if (PyLong_CheckExact(argument))
        hash = (size_t)quick_hash(argument);
    else
        return NULL;
    Node *node = table->slots[hash & table->mask];
    if (node == NULL || node->key != argument)
        return NULL;
    count_hit(table, node);
    return Py_NewRef((PyObject *)node);
}

static Py_NO_INLINE PyObject *
call_hit(Call *call, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Table *table = call->table;
    if (table->registry->fence_ns != INT64_MAX && fence_check(table->registry) < 0)
        return NULL;
    PyObject *sorted[MAX_PARAMETERS];
    Wanted wanted = {args, count, NULL};
    if (names != NULL || count != PyTuple_GET_SIZE(call->names)) {
        if (!sort_arguments(call, args, count, names, sorted))
            return call_find(call, args, count, names);
        wanted.items = sorted;
        wanted.count = PyTuple_GET_SIZE(call->names);
    }
    else if (count > call->positional)
        return call_find(call, args, count, names);
    Node *node = NULL;
    Py_hash_t hash = table->is_keyed_by_argument ? quick_hash(wanted.items[0])
                                                 : items_hash(wanted.items, wanted.count);
    if (hash == -1 || table_find(table, &wanted, hash, &node) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            return NULL;
        PyErr_Clear(); /* unhashable: `find` says which argument */
    }
    if (node == NULL)
        return hash != -1 && are_canonical(call, &wanted) ? call_create(table, &wanted, hash)
                                                          : call_find(call, args, count, names);
    count_hit(table, node);
    return Py_NewRef((PyObject *)node);
}

static PyObject *
Call_vectorcall(Call *self, PyObject *const *args, size_t countf, PyObject *names)
{
    if (names == NULL && PyVectorcall_NARGS(countf) == 1) {
        PyObject *node = quick_hit(self, args[0]);
        if (node != NULL)
            return node;
    }
    return call_hit(self, args, PyVectorcall_NARGS(countf), names);
}

static PyObject *
Call_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"table",    "find",     "descriptor", "instance", "names",
                               "defaults", "required", "positional", "types",    NULL};
    PyObject *table, *find, *descriptor, *instance, *names, *defaults, *required, *types;
    Py_ssize_t positional;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOOO!O!OnO!", keywords, &Table_Type, &table, &find, &descriptor,
                                     &instance, &PyTuple_Type, &names, &PyTuple_Type, &defaults, &required,
                                     &positional, &PyTuple_Type, &types))
        return NULL;
    if (PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(defaults) || PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(types)) {
        PyErr_SetString(PyExc_ValueError, "there must be as many defaults and types as names");
        return NULL;
    }
    Call *self = (Call *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = (vectorcallfunc)Call_vectorcall;
    self->table = (Table *)Py_NewRef(table);
    self->find = Py_NewRef(find);
    self->descriptor = Py_NewRef(descriptor);
    self->instance = Py_NewRef(instance);
    self->names = Py_NewRef(names);
    self->defaults = Py_NewRef(defaults);
    self->required = Py_NewRef(required);
    self->positional = positional;
    self->types = Py_NewRef(types);
    return (PyObject *)self;
}

/* Take this call out of its descriptor's cache. */
static void
call_uncache(Call *self)
{
    if (self->descriptor != NULL && PyObject_TypeCheck(self->descriptor, &ServiceMethodHit_Type)) {
        ServiceMethodHit *descriptor = (ServiceMethodHit *)self->descriptor;
        if (descriptor->call == self) {
            descriptor->call = NULL;
            descriptor->instance = NULL;
        }
    }
}

static int
Call_traverse(Call *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)self->table);
    Py_VISIT(self->find);
    Py_VISIT(self->descriptor);
    Py_VISIT(self->instance);
    Py_VISIT(self->defaults);
    Py_VISIT(self->types);
    Py_VISIT(self->dict);
    return 0;
}

static int
Call_clear(Call *self)
{
    call_uncache(self);
    Py_CLEAR(self->instance); /* what is called without it would still be right: the rest stays until the end */
    Py_CLEAR(self->dict);
    return 0;
}

static void
Call_dealloc(Call *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    Call_clear(self);
    Py_XDECREF((PyObject *)self->table);
    Py_XDECREF(self->find);
    Py_XDECREF(self->descriptor);
    Py_XDECREF(self->names);
    Py_XDECREF(self->defaults);
    Py_XDECREF(self->required);
    Py_XDECREF(self->types);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef Call_members[] = {
    {"table", T_OBJECT, offsetof(Call, table), READONLY, "Where to look."},
    {"find", T_OBJECT, offsetof(Call, find), READONLY, "The slow way."},
    {NULL},
};

static PyGetSetDef Call_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

static PyTypeObject Call_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph._speed.Call",
    .tp_doc = "A bound compute method: arguments in, node out (see pure.hit).",
    .tp_basicsize = sizeof(Call),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = Call_new,
    .tp_dealloc = (destructor)Call_dealloc,
    .tp_traverse = (traverseproc)Call_traverse,
    .tp_clear = (inquiry)Call_clear,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Call, vectorcall),
    .tp_dictoffset = offsetof(Call, dict),
    .tp_weaklistoffset = offsetof(Call, weakrefs),
    .tp_members = Call_members,
    .tp_getset = Call_getset,
};

/* A call on another instance than last time. */
static Py_NO_INLINE PyObject *
ServiceMethodHit_bind_and_call(ServiceMethodHit *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "a service method is called on an instance");
        return NULL;
    }
    PyObject *instance = args[0];
    descrgetfunc get = Py_TYPE(self)->tp_descr_get;
    if (get == NULL) {
        PyErr_SetString(PyExc_TypeError, "a service method must be a descriptor");
        return NULL;
    }
    PyObject *bound = get((PyObject *)self, instance, (PyObject *)Py_TYPE(instance));
    if (bound == NULL)
        return NULL;
    if (Py_IS_TYPE(bound, &Call_Type) && ((Call *)bound)->descriptor == (PyObject *)self &&
        ((Call *)bound)->instance == instance && Py_REFCNT(bound) > 1) {
        self->instance = instance;
        self->call = (Call *)bound;
    }
    PyObject *result = PyObject_Vectorcall(bound, args + 1, (size_t)(count - 1), names);
    Py_DECREF(bound);
    return result;
}

/* `service.method(...)`: the descriptor is called with the instance as the first argument, nothing is bound. */
static PyObject *
ServiceMethodHit_vectorcall(ServiceMethodHit *self, PyObject *const *args, size_t countf, PyObject *names)
{
    Py_ssize_t count = PyVectorcall_NARGS(countf);
    if (count < 1 || args[0] != self->instance)
        return ServiceMethodHit_bind_and_call(self, args, count, names);
    if (names == NULL && count == 2) {
        PyObject *node = quick_hit(self->call, args[1]);
        if (node != NULL)
            return node;
    }
    return call_hit(self->call, args + 1, count - 1, names);
}

static PyObject *
ServiceMethodHit_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ServiceMethodHit *self = (ServiceMethodHit *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->vectorcall = (vectorcallfunc)ServiceMethodHit_vectorcall;
    return (PyObject *)self;
}

static PyTypeObject ServiceMethodHit_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph._speed.ServiceMethodHit",
    .tp_doc = "Base of the descriptor that a service method is; remembers what it was bound to last.",
    .tp_basicsize = sizeof(ServiceMethodHit),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = ServiceMethodHit_new,
    .tp_vectorcall_offset = offsetof(ServiceMethodHit, vectorcall),
};

/* ---- invalidation ------------------------------------------------------------------------------------------------ */

/* One invalidation under way: the marked nodes, linked by `newer`; their events' numbers stand in `older`. */
typedef struct {
    Node *first, *last;
    PyObject *cause;
    double time_s;
    Trash trash;
    PyObject *concerned;
    PyObject *delayed;
} Marking;

static void
append_or_complain(PyObject **list, Node *node)
{
    if (*list == NULL)
        *list = PyList_New(0);
    if (*list == NULL || PyList_Append(*list, (PyObject *)node) < 0)
        PyErr_WriteUnraisable((PyObject *)node);
}

/* Remove the edges by which a marked node was reached. */
static void
forget_dependencies(Node *node)
{
    Edges *dependencies = node->dependencies;
    if (dependencies == NULL)
        return;
    node->dependencies = NULL;
    for (uint32_t i = 0; i < dependencies->size; i++) {
        Node *dependency = PEERS(dependencies)[i];
        if (dependency->dependents != NULL) /* else it is, or was, expanded */
            dependents_remove(dependency, PLACES(dependencies)[i]);
    }
    PyMem_Free(dependencies);
}

static void
outdate(Marking *marking, Node *node, int64_t via)
{
    Registry *registry = node->table->registry;
    Extra *extra = node->extra;
    node->state = extra != NULL && extra->computation != NULL ? OUTDATED : INVALIDATED;
    if (node->is_entered)
        table_remove(node); /* its reference is that of the marking now */
    else
        Py_INCREF(node);
    registry->invalidations++;
    int64_t event = history_record(registry->history, OUT_OF_DATE, node, via, marking->cause, marking->time_s,
                                   &marking->trash);
    if (extra != NULL) {
        used_free(extra);
        if (extra->observers != NULL || extra->expiry != NULL || extra->computation != NULL)
            append_or_complain(&marking->concerned, node);
        else
            extra_trim(node);
    }
    if (node->dependents == NULL) /* nothing to go on to: do the rest while the node is in the processor's cache */
        forget_dependencies(node);
    node->older = (Node *)(intptr_t)event;
    node->newer = NULL;
    if (marking->last == NULL)
        marking->first = node;
    else
        marking->last->newer = node;
    marking->last = node;
}

/* Go on from a marked node to those that depend on it. */
static void
expand(Marking *marking, Node *node)
{
    Edges *dependents = node->dependents;
    if (dependents == NULL) { /* perhaps since others have been expanded */
        forget_dependencies(node);
        return;
    }
    int64_t event = (int64_t)(intptr_t)node->older;
    node->dependents = NULL;
    for (uint32_t i = 0; i < dependents->size; i++) {
        Node *dependent = PEERS(dependents)[i];
        if (!IS_LIVE(dependent))
            continue; /* it will remove its end of the edge itself */
        if (dependent->table->is_delayed && dependent->state == CONSISTENT) {
            dependencies_remove(dependent, PLACES(dependents)[i]);
            append_or_complain(&marking->delayed, dependent);
        }
        else
            outdate(marking, dependent, event);
    }
    PyMem_Free(dependents);
    forget_dependencies(node);
}

static PyObject *
mark(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyObject_TypeCheck(args[0], &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "mark takes a node and a cause");
        return NULL;
    }
    Node *root = (Node *)args[0];
    if (!IS_LIVE(root))
        Py_RETURN_NONE;
    Marking marking = {.cause = args[1], .time_s = (double)clock_ns(EVENT_CLOCK) * 1e-9};
    outdate(&marking, root, -1);
    for (Node *node = marking.first; node != NULL; node = node->newer)
        expand(&marking, node);
    for (Node *node = marking.first, *next; node != NULL; node = next) {
        next = node->newer;
        node->older = node->newer = NULL;
        if (Py_REFCNT(node) > 1 && !PyObject_GC_IsTracked((PyObject *)node))
            PyObject_GC_Track(node); /* others hold it: from now on it is like any object */
        Py_DECREF(node);
    }
    trash_empty(&marking.trash);
    if (marking.concerned == NULL && marking.delayed == NULL)
        Py_RETURN_NONE;
    if (marking.concerned == NULL)
        marking.concerned = PyList_New(0);
    if (marking.delayed == NULL)
        marking.delayed = PyList_New(0);
    return Py_BuildValue("(NN)", marking.concerned, marking.delayed);
}

/* ---- the module -------------------------------------------------------------------------------------------------- */
static int
two_nodes(PyObject *const *args, Py_ssize_t count)
{
    if (count == 2 && PyObject_TypeCheck(args[0], &Node_Type) && PyObject_TypeCheck(args[1], &Node_Type))
        return 0;
    PyErr_SetString(PyExc_TypeError, "two nodes are expected: the dependent, and what it depends on");
    return -1;
}

static PyObject *
capture(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (two_nodes(args, count) < 0 || capture_edge((Node *)args[0], (Node *)args[1]) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
link_nodes(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (two_nodes(args, count) < 0)
        return NULL;
    Node *dependent = (Node *)args[0], *node = (Node *)args[1];
    if (!dependent->is_entered || !node->is_entered || dependent == node)
        Py_RETURN_FALSE;
    int is_new = edge_add(dependent, node);
    return is_new < 0 ? NULL : PyBool_FromLong(is_new);
}

static PyObject *
unlink_nodes(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (two_nodes(args, count) < 0)
        return NULL;
    edge_remove((Node *)args[0], (Node *)args[1]);
    Py_RETURN_NONE;
}

static PyObject *
edges_list(Edges *edges)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && edges != NULL && i < edges->size; i++)
        if (PyList_Append(list, (PyObject *)PEERS(edges)[i]) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *
dependents_of(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyObject *const args[] = {object, object};
    return two_nodes(args, 2) < 0 ? NULL : edges_list(((Node *)object)->dependents);
}

static PyObject *
dependencies_of(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyObject *const args[] = {object, object};
    return two_nodes(args, 2) < 0 ? NULL : edges_list(((Node *)object)->dependencies);
}

static PyTypeObject *
heap_subtype(PyObject *object, PyTypeObject *base)
{
    if (!PyType_Check(object) || !PyType_IsSubtype((PyTypeObject *)object, base) ||
        !(((PyTypeObject *)object)->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        PyErr_Format(PyExc_TypeError, "a class derived from %s is expected", base->tp_name);
        return NULL;
    }
    return (PyTypeObject *)object;
}

/* Let `await` statements on a class derived from Node take the short way; `__await__` stays what it was in Python. */
static PyObject *
adopt_node(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyTypeObject *type = heap_subtype(object, &Node_Type);
    if (type == NULL)
        return NULL;
    if (type->tp_basicsize != Node_Type.tp_basicsize) {
        PyErr_SetString(PyExc_TypeError, "the class must have __slots__ = ()");
        return NULL;
    }
    PyHeapTypeObject *heap = (PyHeapTypeObject *)type;
    heap->as_async.am_await = (unaryfunc)Node_am_await;
    heap->as_async.am_send = (sendfunc)Node_am_send;
    type->tp_as_async = &heap->as_async;
    type->tp_iternext = (iternextfunc)Node_iternext;
    type->tp_dealloc = (destructor)Node_dealloc;
    PyType_Modified(type);
    Py_RETURN_NONE;
}

/* Let calls of methods by a class derived from ServiceMethodHit bypass `__get__`. */
static PyObject *
adopt_descriptor(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyTypeObject *type = heap_subtype(object, &ServiceMethodHit_Type);
    if (type == NULL)
        return NULL;
    type->tp_vectorcall_offset = offsetof(ServiceMethodHit, vectorcall);
    type->tp_call = PyVectorcall_Call;
    PyType_Modified(type);
    /* Immutable, because the interpreter then specializes calls: it need not look the method up each time. */
    type->tp_flags |= Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE;
    Py_RETURN_NONE;
}

static PyObject *
set_context(PyObject *Py_UNUSED(module), PyObject *variable)
{
    if (!PyContextVar_CheckExact(variable)) {
        PyErr_SetString(PyExc_TypeError, "a context variable is expected");
        return NULL;
    }
    Py_XSETREF(current_computation, Py_NewRef(variable));
    Py_RETURN_NONE;
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL

static PyMethodDef methods[] = {
    {"capture", FAST(capture), "Record that a computation has been given the output of a node."},
    {"link", FAST(link_nodes), "Add an edge; tell whether it is new."},
    {"unlink", FAST(unlink_nodes), "Remove an edge, if there is one."},
    {"mark", FAST(mark), "Mark a node and its transitive dependents as out of date (see pure.invalidation)."},
    {"dependents_of", dependents_of, METH_O, "Return those that use a node, or wait for it."},
    {"dependencies_of", dependencies_of, METH_O, "Return what a node has used, or waits for now."},
    {"adopt_node", adopt_node, METH_O, "Let `await` of a class derived from Node take the short way."},
    {"adopt_descriptor", adopt_descriptor, METH_O, "Let calls by a class of descriptors take the short way."},
    {"set_context", set_context, METH_O, "Say which context variable holds the current computation."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fusion_cluster.graph._speed",
    .m_doc = "The hot path of the graph in C. Use fusion_cluster.graph.core, which chooses between this and Python.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__speed(void)
{
    PyTypeObject *types[] = {&History_Type, &Registry_Type,         &Node_Type,
                             &Table_Type,   &ServiceMethodHit_Type, &Call_Type};
    str_begin = PyUnicode_InternFromString("_begin");
    str_use = PyUnicode_InternFromString("_use");
    str_graph = PyUnicode_InternFromString("graph");
    str_invalidate = PyUnicode_InternFromString("invalidate");
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || str_begin == NULL || str_use == NULL || str_graph == NULL || str_invalidate == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (PyModule_AddType(module, types[i]) < 0) {
            Py_DECREF(module);
            return NULL;
        }
    return module;
}
