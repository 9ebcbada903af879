/* From `service.method(arguments)` to the node: bound methods and their descriptors (twin: pure/hit.py). */

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
        else if (PyUnicode_CheckExact(item)) {
            if (PyUnicode_KIND(item) > PyUnicode_1BYTE_KIND)
                return 0; /* it may have halves of characters in it, which cannot be sent */
            if (PyUnicode_GET_LENGTH(item) > MAX_SMALL)
                return 0; /* it may be too long to be sent */
        }
        else if (PyBytes_CheckExact(item) && PyBytes_GET_SIZE(item) > MAX_SMALL)
            return 0;
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
    if (!call->is_raw || table->registry->is_in_doubt)
        return call_find(call, args, count, names);
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
                               "defaults", "required", "positional", "types",    "is_raw",   NULL};
    PyObject *table, *find, *descriptor, *instance, *names, *defaults, *required, *types;
    Py_ssize_t positional;
    int is_raw;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OOOO!O!OnO!p", keywords, &Table_Type, &table, &find, &descriptor,
                                     &instance, &PyTuple_Type, &names, &PyTuple_Type, &defaults, &required,
                                     &positional, &PyTuple_Type, &types, &is_raw))
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
    self->is_raw = (char)is_raw;
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
    {"is_raw", T_BOOL, offsetof(Call, is_raw), 0, "Raw arguments may be looked up as they are."},
    {NULL},
};

static PyGetSetDef Call_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

static PyTypeObject Call_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "fusion_cluster.graph.core._speed.Call",
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
    Call *call = (Call *)Py_NewRef((PyObject *)self->call); /* keys of users may let go of the service */
    PyObject *node = call_hit(call, args + 1, count - 1, names);
    Py_DECREF(call);
    return node;
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
    .tp_name = "fusion_cluster.graph.core._speed.ServiceMethodHit",
    .tp_doc = "Base of the descriptor that a service method is; remembers what it was bound to last.",
    .tp_basicsize = sizeof(ServiceMethodHit),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = ServiceMethodHit_new,
    .tp_vectorcall_offset = offsetof(ServiceMethodHit, vectorcall),
};
