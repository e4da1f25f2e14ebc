import io

from rich.console import Console

from onesearch.log.report import FileCount, Report


def test_the_account_shows_every_count():
    report = Report(files={"clicks.csv": FileCount(accepted=1200, rejected=3)}, rows={"items": 437}, notes=["A note."])
    report.reasons["not UTF-8"] += 3
    report.find("clicks that were mended", 2)
    report.find("clicks that were mended", 5)
    report.find("what did not happen", 0)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report)
    lines = console.export_text().splitlines()

    def row(start: str) -> list[str]:
        found = next(line for line in lines if line.startswith(f"│ {start}"))
        return [cell.strip() for cell in found.strip("│").split("│")]

    assert row("clicks.csv") == ["clicks.csv", "1,203", "1,200", "3"]
    assert row("not UTF-8") == ["not UTF-8", "3"]
    assert row("clicks that were mended") == ["clicks that were mended", "7"]
    assert row("items") == ["items", "437"]
    assert "A note." in lines
    assert not any("what did not happen" in line for line in lines)
