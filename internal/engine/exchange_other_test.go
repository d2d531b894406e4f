//go:build !linux

package engine

import "os"

// exchange makes each of two paths what the other was; for a moment there is nothing at a.
func exchange(a, b string) error {
	for _, step := range [][2]string{{a, a + ".old"}, {b, a}, {a + ".old", b}} {
		if err := os.Rename(step[0], step[1]); err != nil {
			return err
		}
	}
	return nil
}
