"""Voice activity: is somebody speaking, and where exactly did it begin and end."""
