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
 *   History  owns the tables, keys, causes and homes of its events.
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

#include "native/structures.h"
#include "native/history.h"
#include "native/queues.h"
#include "native/edges.h"
#include "native/node.h"
#include "native/registry.h"
#include "native/table.h"
#include "native/hit.h"
#include "native/invalidation.h"

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
    if (count == 2 && !PyObject_TypeCheck(args[0], &Node_Type) && PyCallable_Check(args[0]))
        return PyObject_CallOneArg(args[0], args[1]); /* what stands for a computation (strays.py) */
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
has_dependents(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyObject *const args[] = {object, object};
    return two_nodes(args, 2) < 0 ? NULL : PyBool_FromLong(((Node *)object)->dependents != NULL);
}

static PyObject *
edges_list(PyObject *object, size_t which)
{
    PyObject *const args[] = {object, object};
    if (two_nodes(args, 2) < 0)
        return NULL;
    PyObject *list = PyList_New(0); /* before the edges are looked at: it may set off the garbage collector */
    Edges *edges = *(Edges **)((char *)object + which);
    for (uint32_t i = 0; list != NULL && edges != NULL && i < edges->size; i++)
        if (PyList_Append(list, (PyObject *)PEERS(edges)[i]) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *
dependents_of(PyObject *Py_UNUSED(module), PyObject *object)
{
    return edges_list(object, offsetof(Node, dependents));
}

static PyObject *
dependencies_of(PyObject *Py_UNUSED(module), PyObject *object)
{
    return edges_list(object, offsetof(Node, dependencies));
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
    {"has_dependents", has_dependents, METH_O, "Tell whether anything uses a node, or waits for it."},
    {"dependents_of", dependents_of, METH_O, "Return those that use a node, or wait for it."},
    {"dependencies_of", dependencies_of, METH_O, "Return what a node has used, or waits for now."},
    {"adopt_node", adopt_node, METH_O, "Let `await` of a class derived from Node take the short way."},
    {"adopt_descriptor", adopt_descriptor, METH_O, "Let calls by a class of descriptors take the short way."},
    {"set_context", set_context, METH_O, "Say which context variable holds the current computation."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fusion_cluster.graph.core._speed",
    .m_doc = "The hot path of the graph in C. Use fusion_cluster.graph.core.hot_path, which chooses between this and Python.",
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
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || str_begin == NULL || str_use == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (PyModule_AddType(module, types[i]) < 0) {
            Py_DECREF(module);
            return NULL;
        }
    return module;
}
