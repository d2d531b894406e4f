package test

import (
	"os/exec"
	"strings"
	"testing"
)

// Packages of later versions must be later for dpkg, so that they are upgrades.
func TestPackageVersionsAreInOrder(t *testing.T) {
	last := "0.0.0"
	for _, tc := range [][3]string{ // what git describe says, when, what the package is called
		{"15c08a4", "1795638917", "0.0.0+202611252035.15c08a4"},
		{"0b6d46c-dirty", "1795638977", "0.0.0+202611252036.0b6d46c.dirty"},
		{"v0.1.0-rc1", "0", "0.1.0~rc1"},
		{"v0.1.0-rc1-3-g15c08a4", "0", "0.1.0~rc1.3.g15c08a4"},
		{"v0.1.0-rc2", "0", "0.1.0~rc2"},
		{"v0.1.0", "0", "0.1.0"},
		{"v0.1.0-12-g15c08a4-dirty", "0", "0.1.0.12.g15c08a4.dirty"},
		{"v0.1.1", "0", "0.1.1"},
	} {
		out, err := exec.Command("../tools/packageversion.sh", tc[0], tc[1]).CombinedOutput()
		version := strings.TrimSpace(string(out))
		if err != nil || version != tc[2] {
			t.Errorf("%s: %q, %v, want %s", tc[0], version, err, tc[2])
		}
		if err := exec.Command("dpkg", "--compare-versions", last, "lt", version).Run(); err != nil {
			t.Errorf("%s is not before %s", last, version)
		}
		last = version
	}
}
