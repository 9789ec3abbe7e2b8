"""deploy.tegrastats: lines as boards print them, of several JetPacks and modules, and lines that are none."""

from __future__ import annotations

import pytest

from deploy.tegrastats import MB_PER_MIB, Reading, parse_line

# Formats as users published them; the numbers are made up where they do not matter.
AGX_JETPACK_5 = (
    "10-16-2023 10:59:22 RAM 1205/30623MB (lfb 6429x4MB) SWAP 0/15311MB (cached 0MB) CPU [0%@729,1%@730,off,off] "
    "EMC_FREQ 3%@2133 GR3D_FREQ 41%@114 GR3D2_FREQ 7%@115 NVJPG1 729 VIC_FREQ 729 APE 233 CV0@-256C CPU@43.5C "
    "Tboard@90C SOC2@40.062C Tdiode@91.5C SOC0@40.5C CV1@-256C GPU@38.156C SOC1@39.125C CV2@-256C "
    "VDD_GPU_SOC 4788mW/4700mW VDD_CPU_CV 798mW/790mW VIN_SYS_5V0 3842mW/3842mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 707mW/707mW NC 0mW/0mW"
)
AGX_JETPACK_6 = (
    "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@2188,5%@2112] "
    "EMC_FREQ 3%@2133 GR3D_FREQ 97%@[1300,1298] NVENC 79%@166 NVDEC off NVJPG off VIC 36%@115 OFA off NVDLA0 off "
    "PVA0_FREQ off APE 174 cpu@52.562C soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C "
    "VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV -398mW/-398mW VIN_SYS_5V0 4707mW/4707mW"
)
NANO_JETPACK_7 = (
    "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) "
    "CPU [38%@1497,2%@729,1%@729,0%@729,1%@729,0%@729] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC off NVJPG off "
    "VIC off OFA off APE 200 cpu@57.125C soc2@55.093C soc0@56.625C gpu@58.5C tj@58.5C soc1@56.1C "
    "VDD_IN 13251mW/8535mW VDD_CPU_GPU_CV 5120mW/1944mW VDD_SOC 2720mW/3659mW"
)
NX_NO_UNITS = (
    "RAM 3347/7467MB (lfb 896x4MB) SWAP 0/3733MB (cached 0MB) CPU [21%@1190,19%@1190] EMC_FREQ 13%@2133 "
    "GR3D_FREQ 61% APE 150 MTS fg 0% bg 0% NVDLA0 OFF VDD_IN 5336/4970 VDD_CPU_GPU_CV 2617/2336 VDD_SOC 1478/1318 "
    "CV0@-256C GPU@49.2C PMIC@100.0C AO@48.5C thermal@50.187C"
)
PLAIN_USER = (
    "RAM 1343/7620MB (lfb 157x4MB) SWAP 165/3810MB (cached 3MB) CPU [0%@1497,0%@729] GR3D_FREQ 0% cpu@48.562C tj@49C"
)
NO_AVERAGE = (
    "RAM 2840/7620MB (lfb 512x4MB) SWAP 0/4096MB CPU [2%,0%]@1036 EMC_FREQ @665 GR3D_FREQ 0%@[0,0] VDD_IN 5765mW"
)


def read(line: str) -> Reading:
    reading = parse_line(line)
    assert reading is not None
    return reading


def test_agx_of_jetpack_5() -> None:
    reading = read(AGX_JETPACK_5)
    assert reading.ram_used_mb == pytest.approx(1205 * MB_PER_MIB)
    assert reading.ram_total_mb == pytest.approx(30623 * MB_PER_MIB)
    assert reading.cpu_load_pct == (0.0, 1.0, None, None)
    assert reading.cpu_mhz == (729.0, 730.0, None, None)
    assert (reading.emc_load_pct, reading.emc_mhz) == (3.0, 2133.0)
    assert (reading.gpu_load_pct, reading.gpu_mhz) == (41.0, 114.0)
    assert "CV0" not in reading.temperatures_c
    assert (reading.hottest_c, reading.gpu_c) == (43.5, 38.156)  # neither the board's sensor nor the diode's
    assert reading.rails_mw == {
        "VDD_GPU_SOC": 4788.0, "VDD_CPU_CV": 798.0, "VIN_SYS_5V0": 3842.0, "VDDQ_VDD2_1V8AO": 707.0,
    }  # fmt: skip
    assert reading.rails_mean_mw["VDD_GPU_SOC"] == 4700.0


def test_agx_of_jetpack_6_has_clusters_and_a_rail_below_zero() -> None:
    reading = read(AGX_JETPACK_6)
    assert (reading.gpu_load_pct, reading.gpu_mhz) == (97.0, 1300.0)
    assert reading.rails_mw["VDD_CPU_CV"] == -398.0
    assert (reading.hottest_c, reading.gpu_c) == (52.562, None)


def test_nano_of_jetpack_7() -> None:
    reading = read(NANO_JETPACK_7)
    assert (reading.emc_load_pct, reading.emc_mhz) == (61.0, 2133.0)
    assert (reading.gpu_load_pct, reading.gpu_mhz) == (99.0, 612.0)
    assert (reading.rails_mw["VDD_IN"], reading.rails_mean_mw["VDD_IN"]) == (13251.0, 8535.0)
    assert len(reading.cpu_load_pct) == 6
    assert reading.swap_used_mb == pytest.approx(369 * MB_PER_MIB)
    assert reading.hottest_c == 58.5


def test_power_without_units_and_a_constant_sensor() -> None:
    reading = read(NX_NO_UNITS)
    assert reading.rails_mw == {"VDD_IN": 5336.0, "VDD_CPU_GPU_CV": 2617.0, "VDD_SOC": 1478.0}
    assert (reading.gpu_load_pct, reading.gpu_mhz) == (61.0, None)
    assert reading.hottest_c == 50.187


def test_what_the_line_does_not_tell_is_none() -> None:
    reading = read(PLAIN_USER)
    assert (reading.emc_load_pct, reading.emc_mhz, reading.gpu_mhz) == (None, None, None)
    assert (reading.rails_mw, reading.rails_mean_mw) == ({}, {})
    reading = read(NO_AVERAGE)
    assert (reading.rails_mw, reading.rails_mean_mw) == ({"VDD_IN": 5765.0}, {})
    assert (reading.emc_load_pct, reading.emc_mhz) == (None, 665.0)
    assert (reading.gpu_load_pct, reading.gpu_mhz) == (0.0, 0.0)
    assert reading.cpu_mhz == (1036.0, 1036.0)
    assert (reading.hottest_c, reading.temperatures_c) == (None, {})


@pytest.mark.parametrize("line", ["", "\n", "Killed", "RAM 12", "tegrastats: not for you", AGX_JETPACK_6[:26]])
def test_lines_that_are_no_reading(line: str) -> None:
    assert parse_line(line) is None


def test_a_line_cut_off_gives_what_was_whole() -> None:
    cut = NANO_JETPACK_7[: NANO_JETPACK_7.index("VDD_IN 13251") + 10]
    assert cut.endswith("VDD_IN 132")
    assert read(cut).rails_mw == {}
