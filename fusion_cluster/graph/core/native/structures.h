/* The structures of the graph in C, and the clocks. Who owns what: see _speed.c. */

#define TRACKED 10000   /* registries up to this size are known to Python's garbage collector */
#define SCANNED 16      /* edges that are searched one by one; beyond, by a hash set */
#define MAX_SMALL 65536 /* characters or bytes of an argument whose size need not be looked at */
#define MAX_PARAMETERS 8 /* of a call whose keywords are sorted here; others take the slow way */

enum { COMPUTING, CONSISTENT, OUTDATED, INVALIDATED };
enum { EVICTABLE, PROTECTED, PAGED, NO_QUEUE };
enum { COMPUTED, FAILED, OUT_OF_DATE, PAGED_OUT, PAGED_IN, DELAYED };
#define MAX_SEARCHED 1024 /* events that are looked at for one that another follows from */

typedef struct Node Node;
typedef struct Table Table;
typedef struct Registry Registry;
typedef struct History History;
typedef struct Call Call;

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
    PyObject *home;  /* of the history that `via` is in, or NULL: this one */
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
    PyObject *home;       /* stands for this history in the events of others, or NULL */
    PyObject *clock;      /* dates the events, in seconds since 1970; NULL or None: the coarse clock of the system */
};

struct Registry {
    PyObject_HEAD
    Py_ssize_t max_nodes;
    Py_ssize_t size;
    Py_ssize_t bytes;
    Py_ssize_t invalidations;
    PyObject *on_full;
    PyObject *on_fence;
    PyObject *on_outdated_use;
    PyObject *clock; /* compared with the fence time, in seconds; NULL or None: the coarse clock of the system */
    History *history;
    int64_t fence_ns;
    char is_in_doubt;
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
    char is_raw;        /* raw arguments may be looked up as they are */
    PyObject *dict;
    PyObject *weakrefs;
};

static PyTypeObject Node_Type, Table_Type, Registry_Type, History_Type, Call_Type, ServiceMethodHit_Type;

static Node gone; /* mark of a table slot that was used */
#define GONE (&gone)

static PyObject *current_computation; /* the context variable */
static PyObject *str_begin, *str_use;

#define IS_LIVE(node) ((node)->state <= CONSISTENT)

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

#define IS_SYSTEM_CLOCK(clock) ((clock) == NULL || (clock) == Py_None)

/* What a clock of the runtime says, in seconds; -1, with an exception set, if it fails. Runs Python. */
static double
clock_s(PyObject *clock)
{
    PyObject *held = Py_NewRef(clock);
    PyObject *now = PyObject_CallNoArgs(held);
    Py_DECREF(held);
    double now_s = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    return now_s;
}
