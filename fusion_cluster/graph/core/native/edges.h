/* Edges, known at both ends, found in constant time however many there are (twin: pure/edges.py). */

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
        if (dependent->extra != NULL)
            used_free(dependent->extra); /* others may get this node's address */
        if (--node->dependents->size == 0) {
            PyMem_Free(node->dependents);
            node->dependents = NULL;
        }
    }
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
    Registry *registry = (Registry *)dependent->table->registry;
    if (registry->on_outdated_use == NULL) {
        PyErr_SetString(PyExc_TypeError, "the registry has no on_outdated_use");
        return -1;
    }
    PyObject *hook = Py_NewRef(registry->on_outdated_use);
    PyObject *result = PyObject_CallFunctionObjArgs(hook, dependent, node, NULL);
    Py_DECREF(hook);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Record that the current computation has been given the output of `node`; or tell what stands for one (strays.py). */
static inline int
capture_as(PyObject *current, Node *node)
{
    if (PyObject_TypeCheck(current, &Node_Type))
        return capture_edge((Node *)current, node);
    PyObject *nothing = PyObject_CallOneArg(current, (PyObject *)node);
    Py_XDECREF(nothing);
    return nothing == NULL ? -1 : 0;
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
    static uint64_t unset_thread, unset_version; /* threads' numbers are never used again, and begin with 1 */
    PyThreadState *thread = PyThreadState_Get();
    if (thread->id == unset_thread && thread->context_ver == unset_version)
        return 0;
#endif
    PyObject *current;
    if (PyContextVar_Get(current_computation, (PyObject *)&gone, &current) < 0)
        return -1;
    int result = 0;
    if (current == (PyObject *)&gone) {
#if PY_VERSION_HEX < 0x030E0000
        unset_thread = thread->id;
        unset_version = thread->context_ver;
#endif
        return 0; /* `gone` lives for ever: its reference need not be given back */
    }
    if (current != Py_None)
        result = capture_as(current, node);
    Py_DECREF(current);
    return result < 0 ? -1 : 0;
}
