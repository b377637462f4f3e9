from tests.dashboard.screens import NASTY, all_text, open_screen


def test_the_export_has_the_recipe_and_the_commands(gallery_storage):
    app = open_screen("export", NASTY)
    codes = [code.value for code in app.code]
    assert "trial_number: 1" in codes[0]
    assert f"injerto best '{NASTY}' --json" in codes
    assert "They are written when the search ends" in all_text(app).replace("\\", "")


def test_weights_on_this_machine_can_be_downloaded(played):
    (played.folder / "best.safetensors").write_bytes(b"0" * 1_500_000)
    app = open_screen("export", "calm-fig")
    assert [one.proto.label for one in app.get("download_button")] == ["Download best.yaml", "Download best.safetensors"]
    assert "1.5 MB" in all_text(app)
