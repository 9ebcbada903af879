/* The type Node, and what an `await` of it does (twin: pure/node.py). */

static Py_hash_t key_hash(Table *table, PyObject *key);

static Node *
node_make(PyTypeObject *type, Table *table, PyObject *key, Py_hash_t hash)
{
    Node *node = PyObject_GC_New(Node, type);
    if (node == NULL)
        return NULL;
    memset((char *)node + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
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
    PyTypeObject *freed_by = type; /* the class whose deallocation this is */
    while (freed_by->tp_dealloc != (destructor)Node_dealloc)
        freed_by = freed_by->tp_base;
    int is_adopted = (freed_by->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0;
    PyObject_GC_Del(self);
    if (is_adopted)
        Py_DECREF(type); /* else `subtype_dealloc`, which has called this, does it: it leaves that to bases on the heap */
    Py_TRASHCAN_END
}

/* What an `await` statement calls: the node itself, which then gives its value without any iterator being made. */
static PyObject *
Node_am_await(Node *self)
{
    if (self->state == CONSISTENT && self->output != NULL && !self->is_failed)
        return Py_NewRef((PyObject *)self);
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
    if (self->output != NULL && !self->is_failed && self->state == CONSISTENT)
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
    .tp_name = "fusion_cluster.graph.core._speed.Node",
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
