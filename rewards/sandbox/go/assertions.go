// Package assert has the assertions of testify that tests of small functions use, for sandboxes
// without modules. As in testify, values are equal when reflect.DeepEqual or bytes.Equal says so.
package assert

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
)

const stops = false // whether a failure ends its test, as in testify's package require

// TestingT is what an assertion needs of a test.
type TestingT interface {
	Errorf(format string, args ...any)
	FailNow()
}

// Assertions are the functions below, bound to a test.
type Assertions struct{ t TestingT }

// New binds the assertions to a test.
func New(t TestingT) *Assertions { return &Assertions{t} }

func verdict(t TestingT, right bool, words []any, format string, args ...any) bool {
	if right {
		return true
	}
	text := fmt.Sprintf(format, args...)
	if len(words) > 0 {
		text += fmt.Sprintf(" %v", words)
	}
	fmt.Fprintf(os.Stderr, "Assertion failed: %.300s\n", text)
	t.Errorf("%s", text)
	if stops {
		t.FailNow()
	}
	return false
}

func equal(expected, actual any) bool {
	left, isBytes := expected.([]byte)
	right, areBytes := actual.([]byte)
	if isBytes && areBytes && left != nil && right != nil {
		return bytes.Equal(left, right)
	}
	return reflect.DeepEqual(expected, actual)
}

func converted(expected, actual any) bool {
	if equal(expected, actual) {
		return true
	}
	from, to := reflect.ValueOf(expected), reflect.ValueOf(actual)
	if !from.IsValid() || !to.IsValid() || !from.CanConvert(to.Type()) || !to.CanConvert(from.Type()) {
		return false
	}
	if (from.Kind() == reflect.String) != (to.Kind() == reflect.String) {
		return false
	}
	return equal(expected, to.Convert(from.Type()).Interface()) &&
		equal(from.Convert(to.Type()).Interface(), actual)
}

func isNil(value any) bool {
	if value == nil {
		return true
	}
	switch of := reflect.ValueOf(value); of.Kind() {
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.Pointer, reflect.Slice:
		return of.IsNil()
	}
	return false
}

func isEmpty(value any) bool {
	if isNil(value) {
		return true
	}
	of := reflect.ValueOf(value)
	switch of.Kind() {
	case reflect.Chan, reflect.Map, reflect.Slice, reflect.Array, reflect.String:
		return of.Len() == 0
	case reflect.Pointer:
		return isEmpty(of.Elem().Interface())
	}
	return of.IsZero()
}

func length(value any) (size int) {
	defer func() {
		if recover() != nil {
			size = -1
		}
	}()
	return reflect.ValueOf(value).Len()
}

func number(value any) (float64, bool) {
	of := reflect.ValueOf(value)
	switch {
	case !of.IsValid():
		return 0, false
	case of.CanInt():
		return float64(of.Int()), true
	case of.CanUint():
		return float64(of.Uint()), true
	case of.CanFloat():
		return of.Float(), true
	}
	return 0, false
}

func near(expected, actual any, delta float64) bool {
	left, isNumber := number(expected)
	right, areNumbers := number(actual)
	if !isNumber || !areNumbers {
		return false
	}
	if math.IsNaN(left) || math.IsNaN(right) {
		return math.IsNaN(left) && math.IsNaN(right)
	}
	return left == right || math.Abs(left-right) <= delta
}

func contains(whole, part any) bool {
	if text, isText := whole.(string); isText {
		piece, isPiece := part.(string)
		return isPiece && strings.Contains(text, piece)
	}
	of := reflect.ValueOf(whole)
	if length(whole) < 0 {
		return false
	}
	if of.Kind() == reflect.Map {
		for _, key := range of.MapKeys() {
			if equal(key.Interface(), part) {
				return true
			}
		}
		return false
	}
	for i := range of.Len() {
		if equal(of.Index(i).Interface(), part) {
			return true
		}
	}
	return false
}

func sameItems(left, right any) bool {
	if isEmpty(left) && isEmpty(right) {
		return true
	}
	if length(left) < 0 || length(left) != length(right) {
		return false
	}
	first, second := reflect.ValueOf(left), reflect.ValueOf(right)
	used := make([]bool, second.Len())
	for i := range first.Len() {
		match := -1
		for j := range second.Len() {
			if !used[j] && equal(first.Index(i).Interface(), second.Index(j).Interface()) {
				match = j
				break
			}
		}
		if match < 0 {
			return false
		}
		used[match] = true
	}
	return true
}

// order is -1, 0 or 1, and 2 where two values have no order.
func order(left, right any) int {
	if reflect.TypeOf(left) != reflect.TypeOf(right) {
		return 2
	}
	if first, isText := left.(string); isText {
		return strings.Compare(first, right.(string))
	}
	a, isNumber := number(left)
	b, _ := number(right)
	switch {
	case !isNumber || math.IsNaN(a) || math.IsNaN(b):
		return 2
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func panicking(call func()) (panicked bool) {
	panicked = true
	defer func() { recover() }()
	call()
	panicked = false
	return
}

func nearBy(expected, actual any, epsilon float64) bool {
	left, isNumber := number(expected)
	return isNumber && near(expected, actual, epsilon*math.Abs(left))
}

// FailNow fails a test and ends it.
func FailNow(t TestingT, text string, words ...any) bool {
	Fail(t, text, words...)
	t.FailNow()
	return false
}

// FailNow fails the test and ends it.
func (a *Assertions) FailNow(text string, words ...any) bool {
	return FailNow(a.t, text, words...)
}

func Equal(t TestingT, expected, actual any, words ...any) bool {
	return verdict(t, equal(expected, actual), words, "Equal: expected %#v, got %#v", expected, actual)
}

func (a *Assertions) Equal(expected, actual any, words ...any) bool {
	return Equal(a.t, expected, actual, words...)
}

func NotEqual(t TestingT, expected, actual any, words ...any) bool {
	return verdict(t, !equal(expected, actual), words, "NotEqual: got %#v", actual)
}

func (a *Assertions) NotEqual(expected, actual any, words ...any) bool {
	return NotEqual(a.t, expected, actual, words...)
}

func EqualValues(t TestingT, expected, actual any, words ...any) bool {
	return verdict(t, converted(expected, actual), words, "EqualValues: expected %#v, got %#v", expected, actual)
}

func (a *Assertions) EqualValues(expected, actual any, words ...any) bool {
	return EqualValues(a.t, expected, actual, words...)
}

func True(t TestingT, value bool, words ...any) bool {
	return verdict(t, value, words, "True: got false")
}

func (a *Assertions) True(value bool, words ...any) bool {
	return True(a.t, value, words...)
}

func False(t TestingT, value bool, words ...any) bool {
	return verdict(t, !value, words, "False: got true")
}

func (a *Assertions) False(value bool, words ...any) bool {
	return False(a.t, value, words...)
}

func Nil(t TestingT, value any, words ...any) bool {
	return verdict(t, isNil(value), words, "Nil: got %#v", value)
}

func (a *Assertions) Nil(value any, words ...any) bool {
	return Nil(a.t, value, words...)
}

func NotNil(t TestingT, value any, words ...any) bool {
	return verdict(t, !isNil(value), words, "NotNil: got nil")
}

func (a *Assertions) NotNil(value any, words ...any) bool {
	return NotNil(a.t, value, words...)
}

func Empty(t TestingT, value any, words ...any) bool {
	return verdict(t, isEmpty(value), words, "Empty: got %#v", value)
}

func (a *Assertions) Empty(value any, words ...any) bool {
	return Empty(a.t, value, words...)
}

func NotEmpty(t TestingT, value any, words ...any) bool {
	return verdict(t, !isEmpty(value), words, "NotEmpty: got %#v", value)
}

func (a *Assertions) NotEmpty(value any, words ...any) bool {
	return NotEmpty(a.t, value, words...)
}

func Len(t TestingT, value any, size int, words ...any) bool {
	return verdict(t, length(value) == size, words, "Len: expected %d, got %d", size, length(value))
}

func (a *Assertions) Len(value any, size int, words ...any) bool {
	return Len(a.t, value, size, words...)
}

func Contains(t TestingT, whole, part any, words ...any) bool {
	return verdict(t, contains(whole, part), words, "Contains: %#v has no %#v", whole, part)
}

func (a *Assertions) Contains(whole, part any, words ...any) bool {
	return Contains(a.t, whole, part, words...)
}

func NotContains(t TestingT, whole, part any, words ...any) bool {
	return verdict(t, !contains(whole, part), words, "NotContains: %#v has %#v", whole, part)
}

func (a *Assertions) NotContains(whole, part any, words ...any) bool {
	return NotContains(a.t, whole, part, words...)
}

func ElementsMatch(t TestingT, expected, actual any, words ...any) bool {
	return verdict(t, sameItems(expected, actual), words, "ElementsMatch: expected %#v, got %#v", expected, actual)
}

func (a *Assertions) ElementsMatch(expected, actual any, words ...any) bool {
	return ElementsMatch(a.t, expected, actual, words...)
}

func InDelta(t TestingT, expected, actual any, delta float64, words ...any) bool {
	return verdict(t, near(expected, actual, delta), words, "InDelta: expected %v, got %v", expected, actual)
}

func (a *Assertions) InDelta(expected, actual any, delta float64, words ...any) bool {
	return InDelta(a.t, expected, actual, delta, words...)
}

func InEpsilon(t TestingT, expected, actual any, epsilon float64, words ...any) bool {
	return verdict(t, nearBy(expected, actual, epsilon), words, "InEpsilon: expected %v, got %v", expected, actual)
}

func (a *Assertions) InEpsilon(expected, actual any, epsilon float64, words ...any) bool {
	return InEpsilon(a.t, expected, actual, epsilon, words...)
}

func Greater(t TestingT, left, right any, words ...any) bool {
	return verdict(t, order(left, right) == 1, words, "Greater: %v and %v", left, right)
}

func (a *Assertions) Greater(left, right any, words ...any) bool {
	return Greater(a.t, left, right, words...)
}

func GreaterOrEqual(t TestingT, left, right any, words ...any) bool {
	return verdict(t, order(left, right) == 0 || order(left, right) == 1, words, "GreaterOrEqual: %v and %v", left, right)
}

func (a *Assertions) GreaterOrEqual(left, right any, words ...any) bool {
	return GreaterOrEqual(a.t, left, right, words...)
}

func Less(t TestingT, left, right any, words ...any) bool {
	return verdict(t, order(left, right) == -1, words, "Less: %v and %v", left, right)
}

func (a *Assertions) Less(left, right any, words ...any) bool {
	return Less(a.t, left, right, words...)
}

func LessOrEqual(t TestingT, left, right any, words ...any) bool {
	return verdict(t, order(left, right) == 0 || order(left, right) == -1, words, "LessOrEqual: %v and %v", left, right)
}

func (a *Assertions) LessOrEqual(left, right any, words ...any) bool {
	return LessOrEqual(a.t, left, right, words...)
}

func NoError(t TestingT, err error, words ...any) bool {
	return verdict(t, err == nil, words, "NoError: got %v", err)
}

func (a *Assertions) NoError(err error, words ...any) bool {
	return NoError(a.t, err, words...)
}

func Error(t TestingT, err error, words ...any) bool {
	return verdict(t, err != nil, words, "Error: got none")
}

func (a *Assertions) Error(err error, words ...any) bool {
	return Error(a.t, err, words...)
}

func EqualError(t TestingT, err error, text string, words ...any) bool {
	return verdict(t, err != nil && err.Error() == text, words, "EqualError: expected %q, got %v", text, err)
}

func (a *Assertions) EqualError(err error, text string, words ...any) bool {
	return EqualError(a.t, err, text, words...)
}

func Panics(t TestingT, call func(), words ...any) bool {
	return verdict(t, panicking(call), words, "Panics: it did not")
}

func (a *Assertions) Panics(call func(), words ...any) bool {
	return Panics(a.t, call, words...)
}

func NotPanics(t TestingT, call func(), words ...any) bool {
	return verdict(t, !panicking(call), words, "NotPanics: it did")
}

func (a *Assertions) NotPanics(call func(), words ...any) bool {
	return NotPanics(a.t, call, words...)
}

func Fail(t TestingT, text string, words ...any) bool {
	return verdict(t, false, words, "%s", text)
}

func (a *Assertions) Fail(text string, words ...any) bool {
	return Fail(a.t, text, words...)
}
