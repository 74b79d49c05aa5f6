/*
 * A stand-in's shared object: Python's module `chat` as pybind11 would make it (PyInit_chat), or a library that ctypes
 * loads. What it does is written in Python, and stands in it as text.
 *
 * There are no Python headers where packages are made, so what is used of CPython's interface is declared here: these
 * functions and this layout are those of 3.8 to 3.13.
 */
#include <stddef.h>
#include "source.h" /* static const char source[] */

typedef struct _object PyObject;
typedef struct {
	ptrdiff_t ob_refcnt;
	void *ob_type;
	PyObject *(*m_init)(void);
	ptrdiff_t m_index;
	PyObject *m_copy;
	const char *m_name;
	const char *m_doc;
	ptrdiff_t m_size;
	void *m_methods;
	void *m_slots;
	void *m_traverse;
	void *m_clear;
	void *m_free;
} PyModuleDef;

extern PyObject *PyModule_Create2(PyModuleDef *definition, int version);
extern PyObject *PyModule_GetDict(PyObject *module);
extern PyObject *PyEval_GetBuiltins(void);
extern PyObject *PyEval_EvalCode(PyObject *code, PyObject *globals, PyObject *locals);
extern PyObject *Py_CompileString(const char *text, const char *name, int start);
extern int PyDict_SetItemString(PyObject *dict, const char *key, PyObject *value);
extern void Py_DecRef(PyObject *object);

#define API_VERSION 1013
#define FILE_INPUT 257

const char *lab_source = source;

PyObject *PyInit_chat(void)
{
	static PyModuleDef definition = {.ob_refcnt = 1, .m_name = "chat", .m_size = -1};
	PyObject *module = PyModule_Create2(&definition, API_VERSION);
	PyObject *names = module ? PyModule_GetDict(module) : NULL;
	PyObject *code = names ? Py_CompileString(source, "chat.cpp", FILE_INPUT) : NULL;
	PyObject *result = NULL;

	if (code && PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins()) == 0)
		result = PyEval_EvalCode(code, names, names);
	Py_DecRef(code);
	if (!result) {
		Py_DecRef(module);
		return NULL;
	}
	Py_DecRef(result);
	return module;
}
