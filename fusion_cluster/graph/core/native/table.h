/* The type Table: the live nodes of one compute function, by their arguments (twin: pure/registry.py). */

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

/* The hash of a key: like that of a tuple where keys are tuples, so that it can be had without making one. A key of a
 * class derived from tuple says itself what it is equal to. */
static Py_hash_t
key_hash(Table *table, PyObject *key)
{
    if (table->is_keyed_by_argument || (PyTuple_Check(key) && !PyTuple_CheckExact(key)))
        return PyObject_Hash(key);
    if (!PyTuple_Check(key)) {
        PyErr_Format(PyExc_TypeError, "the keys of this table are tuples, not %.100s", Py_TYPE(key)->tp_name);
        return -1;
    }
    return items_hash(((PyTupleObject *)key)->ob_item, PyTuple_GET_SIZE(key));
}

/* Arguments of different classes are never one: 1 and True, where they are the same argument, are made so first. */
static inline int
same_object(PyObject *a, PyObject *b)
{
    if (a == b)
        return 1;
    if (Py_TYPE(a) != Py_TYPE(b))
        return 0;
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
    return wanted->whole == NULL ? 0 : PyObject_RichCompareBool(key, wanted->whole, Py_EQ);
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

/* A walk from a place that is chosen at random: no list of the nodes is made. */
static PyObject *
Table_sample(Table *self, PyObject *number)
{
    size_t place = (size_t)PyLong_AsUnsignedLongLongMask(number);
    if (PyErr_Occurred())
        return NULL;
    for (size_t i = 0; self->slots != NULL && i <= self->mask; i++) {
        Node *node = self->slots[(place + i) & self->mask];
        if (node != NULL && node != GONE)
            return Py_NewRef((PyObject *)node);
    }
    Py_RETURN_NONE;
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
    {"sample", (PyCFunction)Table_sample, METH_O,
     "Return a node, which a number from 0 on chooses; None if there are no nodes. Random ones choose at random."},
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
    .tp_name = "fusion_cluster.graph.core._speed.Table",
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
