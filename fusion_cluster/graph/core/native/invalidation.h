/* Invalidation of a subgraph (twin: pure/invalidation.py). */

/* One invalidation under way: the marked nodes, linked by `newer`; their events' numbers stand in `older`.
 *
 * Nothing here makes an object while edges are being changed: that could set off the garbage collector, which runs
 * finalizers, and frees graphs that nobody holds.
 */
typedef struct {
    Node *first, *last;
    PyObject *cause;
    double time_s;
    References trash;
    References concerned; /* references to nodes that have observers, a timer or a computation */
    References delayed;   /* and to those that were passed over */
} Marking;

/* Make a list of references, which are given to it. */
static PyObject *
list_of(References *references)
{
    PyObject *list = PyList_New(references->size);
    if (list == NULL) {
        references_drop(references);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < references->size; i++)
        PyList_SET_ITEM(list, i, references->items[i]);
    PyMem_Free(references->items);
    return list;
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
outdate(Marking *marking, Node *node, int64_t via, PyObject *home)
{
    Registry *registry = node->table->registry;
    Extra *extra = node->extra;
    node->state = extra != NULL && extra->computation != NULL ? OUTDATED : INVALIDATED;
    if (node->is_entered)
        table_remove(node); /* its reference is that of the marking now */
    else
        Py_INCREF(node);
    registry->invalidations++;
    int64_t event = history_record(registry->history, OUT_OF_DATE, node, via, home, marking->cause, marking->time_s,
                                   &marking->trash);
    if (extra != NULL) {
        used_free(extra);
        if (extra->observers != NULL || extra->expiry != NULL || extra->computation != NULL)
            references_add(&marking->concerned, Py_NewRef((PyObject *)node));
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
    History *history = node->table->registry->history;
    node->dependents = NULL;
    for (uint32_t i = 0; i < dependents->size; i++) {
        Node *dependent = PEERS(dependents)[i];
        if (!IS_LIVE(dependent))
            continue; /* it will remove its end of the edge itself */
        History *its_own = dependent->table->registry->history;
        PyObject *home = home_of(history, its_own);
        if (dependent->table->is_delayed && dependent->state == CONSISTENT) {
            dependencies_remove(dependent, PLACES(dependents)[i]);
            history_record(its_own, DELAYED, dependent, event, home, marking->cause, marking->time_s, &marking->trash);
            references_add(&marking->delayed, Py_NewRef((PyObject *)dependent));
        }
        else
            outdate(marking, dependent, event, home);
    }
    PyMem_Free(dependents);
    forget_dependencies(node);
}

static PyObject *
mark(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count < 2 || count > 4 || !PyObject_TypeCheck(args[0], &Node_Type)) {
        PyErr_SetString(PyExc_TypeError, "mark takes a node and a cause, and perhaps the event that it follows from");
        return NULL;
    }
    Node *root = (Node *)args[0];
    int64_t via = count > 2 ? PyLong_AsLongLong(args[2]) : -1;
    if (via == -1 && count > 2 && PyErr_Occurred())
        return NULL;
    if (!IS_LIVE(root))
        Py_RETURN_NONE;
    Marking marking = {.cause = args[1], .time_s = history_now_s(root->table->registry->history)};
    if (!IS_LIVE(root)) /* reading the clock may have run finalizers */
        Py_RETURN_NONE;
    outdate(&marking, root, via, count > 3 && args[3] != Py_None ? args[3] : NULL);
    for (Node *node = marking.first; node != NULL; node = node->newer)
        expand(&marking, node);
    for (Node *node = marking.first, *next; node != NULL; node = next) {
        next = node->newer;
        node->older = node->newer = NULL;
        if (Py_REFCNT(node) > 1 && !PyObject_GC_IsTracked((PyObject *)node))
            PyObject_GC_Track(node); /* others hold it: from now on it is like any object */
        Py_DECREF(node);
    }
    references_drop(&marking.trash);
    if (marking.concerned.size == 0 && marking.delayed.size == 0)
        Py_RETURN_NONE;
    PyObject *concerned = list_of(&marking.concerned), *delayed = list_of(&marking.delayed);
    if (concerned == NULL || delayed == NULL) {
        Py_XDECREF(concerned);
        Py_XDECREF(delayed);
        return NULL;
    }
    return Py_BuildValue("(NN)", concerned, delayed);
}
